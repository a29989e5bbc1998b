"""The HTTP application: its routes, and how they fail."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from stars_guard.errors import StarsGuardError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.server.config import ServerConfig
from stars_guard.server.doors import FAILED, add_answers
from stars_guard.server.entry.body import BodyReader, BoundedBody, reading_route
from stars_guard.server.entry.failures import fault_body
from stars_guard.server.entry.gate import Gate
from stars_guard.server.entry.hosts import reachable_as
from stars_guard.server.judges import add_judges
from stars_guard.server.models import model_card, model_list
from stars_guard.server.openai.faults import Fault, fault_of, malformed_request, refused_by_framework
from stars_guard.server.openai.wire import ErrorAnswer
from stars_guard.server.service import Service
from stars_guard.server.telemetry.exchange import Exchange, Observer
from stars_guard.version import __version__

_ERROR = {"model": ErrorAnswer, "description": "An `error` object says what is wrong."}
_FAILURES: dict[int | str, dict[str, Any]] = dict.fromkeys(FAILED, _ERROR)


def served_guard(config: ServerConfig) -> StarsGuardedLLM:
    """Load the models, to be guarded as the operator says.

    Raises:
        ConfigurationError: something is not there, or does not fit.
    """
    return StarsGuardedLLM.load(
        config.model,
        config.reward,
        config.guard,
        sampling=config.sampling,
        budget=config.budget,
        max_rows=config.limits.rows,
    )


def create_app(
    llm: StarsGuardedLLM, config: ServerConfig | None = None, observers: Sequence[Observer] = ()
) -> FastAPI:
    """The application that serves a guard.

    Args:
        llm: the guard, already loaded; it must not be used any more.
        config: what the operator set; ``model``, ``reward`` and ``guard`` in it were used to load ``llm``.
        observers: told of every request, besides those that the configuration asks for.

    Raises:
        ConfigurationError: something in the configuration cannot be had.
    """
    config = config or ServerConfig()
    service = Service(llm, config, observers)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.watch_readiness()
        yield
        await service.aclose()

    app = FastAPI(
        title="stars_guard",
        version=__version__,
        summary="An OpenAI-compatible API that only sends text which a reward model accepted.",
        lifespan=lifespan,
        responses=_FAILURES,
    )
    app.state.service = service
    app.router.route_class = reading_route(BodyReader(service.admission, service.workers, config.limits))
    _add_failures(app)
    add_answers(app, service)
    add_judges(app, service)
    _add_reading(app, service)
    _add_health(app, service)
    if config.observability.metrics:
        app.add_api_route("/metrics", service.telemetry.metrics.response, include_in_schema=False)
    # The last added is the outermost.
    app.add_middleware(BoundedBody, limits=config.limits)
    app.add_middleware(Gate, keys=service.keys, observer=service.observer)
    app.add_middleware(reachable_as, hosts=config.hosts, origins=config.cors_origins)
    return app


def _add_failures(app: FastAPI) -> None:
    def answered(request: Request, fault: Fault) -> Response:
        return JSONResponse(fault_body(fault, request.scope), fault.status, headers=fault.headers)

    async def failed(request: Request, error: Exception) -> Response:
        exchange: Exchange | None = getattr(request.state, "exchange", None)
        fault = fault_of(error)
        if exchange is not None and exchange.outcome is None:
            exchange.outcome, exchange.error = fault.outcome, error
        return answered(request, fault)

    async def malformed(request: Request, error: Exception) -> Response:
        return answered(request, malformed_request(error))

    async def not_served(request: Request, error: Exception) -> Response:
        route = f"{request.method} {request.url.path[:100]}"
        return answered(request, refused_by_framework(route, error))

    app.add_exception_handler(Fault, failed)
    app.add_exception_handler(StarsGuardError, failed)
    app.add_exception_handler(TimeoutError, failed)
    app.add_exception_handler(RequestValidationError, malformed)
    app.add_exception_handler(HTTPException, not_served)


def _add_reading(app: FastAPI, service: Service) -> None:
    model = model_card(service)

    @app.get("/v1/models", tags=["models"])
    async def models() -> dict[str, Any]:
        """The one model there is."""
        return model_list(model)

    @app.get("/v1/models/{model_id:path}", tags=["models"])
    async def model_by_id(model_id: str) -> dict[str, Any]:
        """The model, by its name."""
        service.translator.check_model(model_id)
        return model

    @app.get("/v1/traces/{request_id}", tags=["guard"], response_model=dict[str, Any])
    async def traces(request: Request, request_id: str) -> Response:
        """Every decision of a request, one trace for each choice; the id is that of its response."""
        key = request.state.key
        kept = service.traces.of(re.split("[-_]", request_id)[-1], key.name if key else "")
        if kept is None:
            raise Fault(404, "there is no such trace here", code="trace_not_found")
        answer = kept.answer(request_id)
        if answer is None:
            most = service.config.traces.max_request_bytes
            message = f"the traces of this request were longer than traces.max_request_bytes={most}"
            raise Fault(404, message, code="trace_too_large")
        return Response(answer, media_type="application/json")


def _add_health(app: FastAPI, service: Service) -> None:
    @app.get("/health/live", tags=["health"])
    async def live() -> dict[str, str]:
        """The process answers."""
        return {"status": "live"}

    @app.get("/health/ready", tags=["health"])
    async def ready() -> Response:
        """The models really draw and score, and requests are taken on."""
        problem = await service.readiness()
        about = {
            "status": problem or "ready",
            "model": service.llm.model.name,
            "reward": service.llm.reward.name,
            "guarantee": service.llm.loop.rounds.proposers.guarantee.value,
            "shadow": service.config.shadow.enabled,
        }
        return JSONResponse(about, 503 if problem else 200)
