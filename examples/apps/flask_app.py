"""Flask: an answer as text that comes word by word; a client that leaves ends the run.

    flask --app examples/apps/flask_app.py run
    curl -N 'http://127.0.0.1:5000/ask?question=Why+is+the+sky+blue'

Each request opens the pipeline anew, which costs little for endpoints, but loads an embedded model again; an
application that is async keeps it open, as fastapi_app.py does.
"""

from flask import Flask, Response, request

import stairstream

app = Flask(__name__)


@app.get("/ask")
def ask() -> Response:
    """The answer to `question`."""
    words = stairstream.stream(request.args.get("question", ""))
    return Response(iter(words), mimetype="text/plain")


@app.errorhandler(stairstream.StairstreamError)
def refuse(error: stairstream.StairstreamError) -> tuple[str, int]:
    """An empty question, or a configuration that is wrong."""
    return str(error), 400
