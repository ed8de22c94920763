"""FastAPI: one open pipeline for all requests, an answer as text that comes word by word.

    uvicorn --app-dir examples/apps fastapi_app:app
    curl -N 'http://127.0.0.1:8000/ask?question=Why+is+the+sky+blue'

A client that leaves ends its run.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, StreamingResponse

import stairstream


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """The pipeline is open as long as the application runs."""
    async with stairstream.open_pipeline("mix") as pipeline:
        yield {"pipeline": pipeline}


app = FastAPI(lifespan=lifespan)


@app.get("/ask")
async def ask(question: str, request: Request) -> StreamingResponse:
    """The answer to `question`."""
    return StreamingResponse(request.state.pipeline.stream(question), media_type="text/plain")


@app.exception_handler(stairstream.StairstreamError)
async def refuse(_: Request, error: stairstream.StairstreamError) -> PlainTextResponse:
    """An empty question."""
    return PlainTextResponse(str(error), status_code=400)
