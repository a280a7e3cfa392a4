"""Flask, gunicorn and SQLAlchemy on SQLite, in the manner of Flask's "SQLAlchemy in Flask".

Tuned: gunicorn's gthread worker, which keeps connections alive (the sync worker does not), one worker with
one thread, the fastest of 1 to 3 workers and 1 to 32 threads on one core, and no access log (the
runner's flags); one upsert instead of a read and a write.
"""

import os

from flask import Flask, Response, abort, jsonify, request
from people import Person, message, parse_born, set_pragmas, upsert, valid_username
from sqlalchemy import create_engine
from sqlalchemy.orm import scoped_session, sessionmaker

engine = create_engine(os.environ["DATABASE_URL"], connect_args={"timeout": 30})
set_pragmas(engine)
session = scoped_session(sessionmaker(engine))
app = Flask(__name__)


@app.teardown_appcontext
def remove_session(error: BaseException | None) -> None:
    """Give the session's connection back at the end of each request."""
    session.remove()


@app.put("/hello/<username>")
def put(username: str) -> tuple[str, int]:
    """Create or replace a person."""
    body = request.get_json()
    if not valid_username(username) or not isinstance(body, dict) or set(body) != {"dateOfBirth"}:
        abort(400)
    try:
        born = parse_born(body["dateOfBirth"])
    except (TypeError, ValueError):
        abort(400)
    session.execute(upsert("sqlite", username.lower(), username, born))
    session.commit()
    return "", 204


@app.get("/hello/<username>")
def get(username: str) -> Response:
    """Greet a person."""
    if not valid_username(username):
        abort(400)
    person = session.get(Person, username.lower())
    if person is None:
        abort(404)
    return jsonify(message=message(person.username, person.born))
