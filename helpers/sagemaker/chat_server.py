"""The process that `serving.serve` starts: models by name on an address that it was handed, as the OpenAI API has them.

Templates, generation and the pieces of a stream are those of transformers' own server. Around it stands what that one
leaves open: only the models that were named can be reached, the list of models names them, every argument of a request
is followed or refused, and an answer may come whole as well as in pieces.
"""

import json
import os
import socket
import sys
import threading
from typing import Literal

import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field
from starlette.concurrency import iterate_in_threadpool
from transformers.commands.serving import ServeArguments, ServeCommand

from helpers.training.base_model import load_model, load_tokenizer

LONGEST = 256  # tokens of an answer, where the request names no other limit


class Message(BaseModel, extra="forbid"):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Question(BaseModel, extra="forbid"):
    """What a request may say; anything else is refused. Without a temperature the model's own settings hold."""

    model: str
    messages: list[Message] = Field(min_length=1)
    stream: bool = False
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)  # the newer name of the same
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=0, lt=2**63)


class Models(ServeCommand):
    """transformers' server for a fixed set of folders."""

    def __init__(self, folders: dict[str, str]):
        super().__init__(ServeArguments(device="cpu", log_level="warning"))
        self.folders, self.loaded, self.turn, self.loading = folders, {}, threading.Lock(), threading.Lock()

    def process_model_name(self, model_id: str) -> str:
        """As it was asked for: no revision is added."""
        return model_id

    def is_continuation(self, req: dict) -> bool:
        """Nothing is kept from one request for the next: an answer depends on its own request alone."""
        return False

    def load_model_and_processor(self, model_id_and_revision: str):
        """A model and its tokenizer, loaded when they are first asked for and kept."""
        name = model_id_and_revision
        with self.loading:
            if name not in self.loaded:
                model = load_model(self.folders[name]).eval()
                if model.generation_config.max_new_tokens is None:
                    model.generation_config.max_new_tokens = LONGEST
                self.loaded[name] = model, load_tokenizer(self.folders[name])
            return self.loaded[name]

    def request_of(self, question: Question) -> dict:
        """The question as transformers' server takes it; an error 404 or 422 for what it can't answer."""
        if question.model not in self.folders:
            named = ", ".join(self.folders)
            raise HTTPException(404, f"no model {question.model!r} is served here: choose {named}")
        request = question.model_dump(exclude_none=True, exclude={"stream"})
        if request["messages"][-1]["role"] == "assistant":
            raise HTTPException(422, "the last message is the assistant's: end with one of the user's")
        model, tokenizer = self.load_model_and_processor(question.model)
        try:
            tokenizer.apply_chat_template(request["messages"], tokenize=False)
        except Exception as error:  # a template raises what it likes
            raise HTTPException(422, f"the chat template refuses these messages: {error}") from error
        if most := request.pop("max_completion_tokens", None):
            request.setdefault("max_tokens", most)
        settings = model.generation_config.to_diff_dict()
        if request.get("temperature"):  # else transformers would note the temperature, and take the likeliest token
            settings |= {"do_sample": True, "top_k": 0, "top_p": 1.0}
        return request | {"generation_config": json.dumps(settings)}

    def pieces(self, request: dict):
        """The answer as events of a stream, one request at a time: the seed is the process's, and so are the cores."""
        with self.turn:
            yield from self.generate_chat_completion(request)
            yield "data: [DONE]\n\n"


def whole(pieces) -> dict:
    """The events of a stream as one answer."""
    chunks = [json.loads(piece.removeprefix("data: ")) for piece in pieces if "[DONE]" not in piece[:12]]
    if failed := next((chunk["error"] for chunk in chunks if "error" in chunk), None):
        raise HTTPException(500, failed)
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    kept = {name: chunks[-1][name] for name in ("id", "created", "model")}
    return kept | {"object": "chat.completion", "choices": [choice]}


async def followed(pieces):
    """The pieces as they come. Who leaves early frees the turn, once the answer that is being generated has ended."""
    try:
        async for piece in iterate_in_threadpool(pieces):
            yield piece
    finally:
        threading.Thread(target=pieces.close, daemon=True).start()  # waits for the model, which the loop must not


def application(models: Models) -> FastAPI:
    """The addresses that a client asks."""
    app = FastAPI()
    app.add_exception_handler(HTTPException, lambda _, error: refusal(error.status_code, error.detail))
    app.add_exception_handler(RequestValidationError, lambda _, error: refusal(422, one_line(error)))

    @app.get("/health")
    def health():
        return {"status": "ok"}

    @app.get("/v1/models")
    def list_models():
        listed = [{"id": name, "object": "model", "created": 0, "owned_by": "workshop"} for name in models.folders]
        return {"object": "list", "data": listed}

    @app.post("/v1/chat/completions")
    def answer(question: Question):
        pieces = models.pieces(models.request_of(question))
        return StreamingResponse(followed(pieces), media_type="text/event-stream") if question.stream else whole(pieces)

    return app


def refusal(status: int, message: str) -> JSONResponse:
    """An error as clients of the OpenAI API read it."""
    return JSONResponse({"error": {"message": message, "type": "invalid_request_error"}}, status)


def one_line(error: RequestValidationError) -> str:
    """What is wrong with a request, argument by argument."""
    unknown = "is not followed here: leave it out"
    said = [(each["loc"][1:], unknown if each["type"] == "extra_forbidden" else each["msg"]) for each in error.errors()]
    return "; ".join(f"{'.'.join(map(str, place))}: {what}" for place, what in said)


def end_with_parent() -> None:
    """Wait until the process that started this one closes its end of the pipe, as it does when it dies; then end."""
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    descriptor, folders = int(sys.argv[1]), json.loads(sys.argv[2])
    threading.Thread(target=end_with_parent, daemon=True).start()
    server = uvicorn.Server(uvicorn.Config(application(Models(folders)), log_level="warning"))
    server.run(sockets=[socket.socket(fileno=descriptor)])
