"""The model, for as long as the day's tokens last."""

from typing import TYPE_CHECKING

from pipeline.documents.facts import Picture
from pipeline.errors import Failure
from pipeline.model.question import Question, Reply
from pipeline.pacing.rates import DailyTokens

if TYPE_CHECKING:
    from pipeline.job.answering import VisionModel


class RationedModel:
    """Asks `model`, and counts what it takes."""

    def __init__(self, model: "VisionModel", tokens: DailyTokens) -> None:
        self._model = model
        self._tokens = tokens

    async def ask(self, question: Question, image: Picture) -> Reply:
        """The model's reply.

        Raises:
            OverDailyTokens: it is not asked.
            Failure: as the model raises it.
        """
        await self._tokens.require_left()
        try:
            reply = await self._model.ask(question, image)
        except Failure as failure:
            if failure.reply:
                self._count(failure.reply)
            raise
        self._count(reply)
        return reply

    def _count(self, reply: Reply) -> None:
        self._tokens.count((reply.input_tokens or 0) + (reply.output_tokens or 0))
