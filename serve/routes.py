"""The HTTP routes over a FeedHandler; plain FastAPI, with or without Ray Serve around it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from configs import ConfigError
from serve import api, api_events, api_explain, api_feed, api_health, api_similar
from serve import api_diagnostics as wire
from serve.admission import UnavailableError
from serve.diagnostics import UnknownIdError
from serve.feed_handler import FeedHandler
from serve.live.journal import JournalError
from serve.requests import FieldError
from serve.serving import NoPrefixError, UnknownPostError

_Responses = dict[int | str, dict[str, Any]]
_BUSY: _Responses = {
    503: {"model": api.Problem, "description": "Too busy; see the Retry-After header"}
}
_SOME: _Responses = {
    207: {
        "model": api_events.EventsResponse,
        "description": "Some events are invalid, and say why",
    },
}
_UNKNOWN: _Responses = {404: {"model": api.Problem, "description": "Not in the bundle"}}
_NO_ZOOM: _Responses = {
    409: {"model": api.Problem, "description": "A zoom, and the bundle has no prefix vectors"}
}


def create_app(handler: FeedHandler) -> FastAPI:
    """Routes that answer from `handler`, which is closed when the app shuts down."""

    @asynccontextmanager
    async def closing(_: FastAPI) -> AsyncIterator[None]:
        yield
        await handler.close()

    app = FastAPI(title="rayfeed", version="1", lifespan=closing)

    @app.post("/v1/feed", responses=_BUSY | _NO_ZOOM)
    async def feed(request: api_feed.FeedRequest) -> api_feed.FeedResponse:
        """A viewer's next page of posts, best first: of the timeline, or of another feed."""
        return await handler.feed(request)

    @app.post("/v1/events", status_code=202, responses=_BUSY | _SOME)
    async def events(
        request: api_events.EventsRequest, response: Response
    ) -> api_events.EventsResponse:
        """What has happened: new and deleted posts, and what viewers did.

        Each event is judged by itself, and what is valid is written down before the answer.
        """
        results = await handler.events(request)
        valid = {result.status != "invalid" for result in results.results}
        response.status_code = 202 if valid == {True} else 422 if valid == {False} else 207
        return results

    @app.get("/v1/similar", responses=_BUSY | _UNKNOWN | _NO_ZOOM)
    async def similar(
        query: Annotated[api_similar.SimilarQuery, Query()],
    ) -> api_similar.SimilarResponse:
        """Posts whose texts are like a post's, from the same subject to the same words."""
        return await handler.similar(query)

    @app.get("/v1/explain", responses=_BUSY | _UNKNOWN | _NO_ZOOM)
    async def explain(
        query: Annotated[api_explain.ExplainQuery, Query()],
    ) -> api_explain.ExplainResponse:
        """Why a viewer gets a post, or does not."""
        return await handler.explain(query)

    @app.get("/v1/diagnostics/post/{post_id}", responses=_BUSY | _UNKNOWN)
    async def post_diagnostics(post_id: wire.IdInPath) -> wire.DiagnosticsResponse:
        """What the log says of a post: scores, their parts, and what they were made of."""
        return await handler.diagnose("post", post_id)

    @app.get("/v1/diagnostics/author/{author_id}", responses=_BUSY | _UNKNOWN)
    async def author_diagnostics(author_id: wire.IdInPath) -> wire.DiagnosticsResponse:
        """The same of an author."""
        return await handler.diagnose("author", author_id)

    @app.get("/v1/diagnostics/viewer/{user_id}", responses=_BUSY | _UNKNOWN)
    async def viewer_diagnostics(user_id: wire.IdInPath) -> wire.ViewerDiagnosticsResponse:
        """How well a viewer is known, and how varied the feed was."""
        return await handler.diagnose_viewer(user_id)

    @app.get("/healthz")
    async def health() -> api_health.Health:
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

    @app.exception_handler(UnavailableError)
    async def unavailable(_: Request, error: UnavailableError) -> JSONResponse:
        headers = {"Retry-After": str(error.retry_after_s)}
        return JSONResponse({"detail": str(error)}, status_code=503, headers=headers)

    @app.exception_handler(JournalError)
    async def unwritten(_: Request, error: JournalError) -> JSONResponse:
        told = {"detail": f"{error}; send the same again later"}
        return JSONResponse(told, status_code=503, headers={"Retry-After": "1"})

    @app.exception_handler(NoPrefixError)
    async def no_zoom(_: Request, error: NoPrefixError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=409)

    @app.exception_handler(UnknownPostError)
    @app.exception_handler(UnknownIdError)
    async def unknown(_: Request, error: LookupError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=404)

    return app
