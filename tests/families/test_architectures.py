"""Every causal architecture of transformers: what it writes when guarded, and what the document says."""

from __future__ import annotations

import pytest

from tests.families.architectures import NAMES
from tests.families.checking import check
from tests.families.document import rows_of

ROWS = rows_of("architectures")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_guarded_text_is_what_the_model_alone_would_write(name):
    row = check(name)
    assert [row.proven, row.guarantee] == ROWS[name][:2]


def test_the_document_knows_them_all():
    assert set(ROWS) == set(NAMES)
