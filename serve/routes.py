"""The HTTP routes over a FeedHandler; plain FastAPI, with or without Ray Serve around it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from configs import ConfigError
from serve import api
from serve.feed_handler import FeedHandler, FieldError, OverloadedError, UnknownPostError

_Responses = dict[int | str, dict[str, Any]]
_BUSY: _Responses = {
    503: {"model": api.Problem, "description": "Too busy; see the Retry-After header"}
}
_UNKNOWN: _Responses = {404: {"model": api.Problem, "description": "No such post in the bundle"}}


def create_app(handler: FeedHandler) -> FastAPI:
    """Routes that answer from `handler`, which is closed when the app shuts down."""

    @asynccontextmanager
    async def closing(_: FastAPI) -> AsyncIterator[None]:
        yield
        await handler.close()

    app = FastAPI(title="rayfeed", version="1", lifespan=closing)

    @app.post("/v1/feed", responses=_BUSY)
    async def feed(request: api.FeedRequest) -> api.FeedResponse:
        """A viewer's next page of posts, best first: of the timeline, or of another feed."""
        return await handler.feed(request)

    @app.get("/v1/explain", responses=_BUSY | _UNKNOWN)
    async def explain(query: Annotated[api.ExplainQuery, Query()]) -> api.ExplainResponse:
        """Why a viewer gets a post, or does not."""
        return await handler.explain(query)

    @app.get("/healthz")
    async def health() -> api.Health:
        """What this replica is serving."""
        return await handler.health()

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        # Not the values refused, as FastAPI would: they may be what JSON cannot hold, like NaN.
        told = [{key: problem[key] for key in ("loc", "msg", "type")} for problem in error.errors()]
        return JSONResponse({"detail": told}, status_code=422)

    @app.exception_handler(ConfigError)
    async def not_allowed(_: Request, error: ConfigError) -> JSONResponse:
        field = error.field if isinstance(error, FieldError) else "overrides"
        told = {"loc": [field], "msg": str(error), "type": "value_error"}
        return JSONResponse({"detail": [told]}, status_code=422)

    @app.exception_handler(OverloadedError)
    async def busy(_: Request, error: OverloadedError) -> JSONResponse:
        headers = {"Retry-After": str(error.retry_after_s)}
        return JSONResponse({"detail": str(error)}, status_code=503, headers=headers)

    @app.exception_handler(UnknownPostError)
    async def unknown(_: Request, error: UnknownPostError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=404)

    return app
