"""Answers to questions, for both lanes: the brain's or the upstream's, unless a behaviour says otherwise."""

import asyncio
import functools
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Self

from localcloud.model import replies
from localcloud.model.brain import Brain
from localcloud.model.deployments import Deployed
from localcloud.model.question import Question, check
from localcloud.model.relay import Relay
from localcloud.model.replies import Reply
from localcloud.model.script import Answer, Asked, AskedPicture, Behaviour, Refusal, Slow
from localcloud.model.structured import CannotAnswerError


class Answering:
    """Checks and answers in threads of its own. Use as a context manager.

    Attributes:
        deployed: the model behind each deployment that has none of its own.
    """

    def __init__(
        self, brain: Brain, upstream: str | None, threads: int, own: Mapping[str, Deployed] = MappingProxyType({})
    ) -> None:
        self.deployed = Deployed()
        self._own = own
        self._brain = brain
        self._relay = Relay(upstream) if upstream else None
        self._at_once = threads
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._threads = ThreadPoolExecutor(self._at_once, "model")
            # Not waited for: the caller is gone by then, and the loop must not block.
            stack.callback(self._threads.shutdown, wait=False, cancel_futures=True)
            if self._relay:
                await stack.enter_async_context(self._relay)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def check(self, body: Mapping[str, Any], deployments: Collection[str]) -> Question:
        """The question in a request's body. Raises RefusedError."""
        return await self._in_thread(check, body, deployments, self.behind(str(body.get("model"))))

    def behind(self, deployment: str) -> Deployed:
        """The model behind a deployment."""
        return self._own.get(deployment, self.deployed)

    async def play(self, behaviour: Behaviour, question: Question, body: Mapping[str, Any]) -> Reply:
        """The reply that a behaviour gives to a question. Raises RefusedError where the upstream gives none."""
        innermost = behaviour
        silence = 0.0
        while isinstance(innermost, Slow):
            silence += innermost.seconds
            innermost = innermost.then
        text = ""
        if isinstance(innermost, Answer) and innermost.text is None:
            if self._relay:
                forwarded = await self._relay.forward(body)
                return Reply(forwarded.status, forwarded.body, replies.limit_headers(innermost.limits), silence=silence)
            try:
                text = await self._in_thread(self._brain.answer, question)
            except CannotAnswerError as reason:
                return replies.render(Refusal(str(reason)), question, "", int(time.time()))
        return replies.render(behaviour, question, text, int(time.time()))

    async def _in_thread[**P, T](self, work: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        call = functools.partial(work, *arguments, **keywords)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def asked(question: Question, identifier: str, caller: str | None, headers: Mapping[str, str]) -> Asked:
    """What is remembered of a question: not the bytes of its images."""
    return Asked(
        at=datetime.now(UTC),
        deployment=question.deployment,
        system=question.system,
        instructions=question.instructions,
        pictures=tuple(
            AskedPicture(
                sha256=picture.sha256,
                size=len(picture.data),
                declared_type=picture.declared_type,
                format=picture.format,
                width=picture.width,
                height=picture.height,
                detail=picture.detail,
            )
            for picture in question.pictures
        ),
        response_format=question.response_format,
        options=question.options,
        prompt_tokens=question.prompt_tokens,
        request_id=identifier,
        caller=caller,
        headers=headers,
    )
