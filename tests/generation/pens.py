"""An engine whose answers a test chooses, and stories that are like no other."""

from collections.abc import Callable, Iterator

from generation.engines.values import Completion, Request, Take
from generation.stories import MAX_DRAWS

Said = tuple[str, str]  # text, finish reason
Say = Callable[[Request], Said]
ANY_NUMBER = 10_000


def place_of(request: Request) -> int:
    """The sample_index that the request is for, read from its seed."""
    return request.sampling.seed // 100 % 5


def draw_of(request: Request) -> int:
    """1 for a place's first draw."""
    draw = (request.sampling.seed % 100 - 1) // 5 + 1
    assert 1 <= draw <= MAX_DRAWS
    return draw


def tale(number: int) -> str:
    """A whole story that shares few of its 4-word runs with any other number's."""
    name = "".join(chr(ord("a") + int(digit)) for digit in str(number))
    return f"A fox {name} met a bear {name} one day. They ran {name} and {name} came home."


def whole(request: Request) -> Said:
    """A story of its own for each seed."""
    return tale(request.sampling.seed), "stop"


class PenEngine:
    """Answers each request with `say(request)`, `size` at once; `pick(n)` is which of n ends next."""

    name, version = "pen", "1.0"

    def __init__(
        self,
        say: Say = whole,
        *,
        weights_hash: str = "0" * 64,
        size: int = ANY_NUMBER,
        pick: Callable[[int], int] = lambda count: 0,
    ) -> None:
        self.say, self.weights_hash, self.size, self.pick = say, weights_hash, size, pick
        self.asked: list[Request] = []

    def write(self, take: Take) -> Iterator[Completion]:
        flying: list[Request] = []
        while True:
            taken = take(self.size - len(flying))
            assert len(taken) <= self.size - len(flying)
            flying += taken
            self.asked += taken
            if not flying:
                return
            yield self.completion(flying.pop(self.pick(len(flying))))

    def completion(self, request: Request) -> Completion:
        text, reason = self.say(request)
        ids = tuple(text.encode())
        return Completion(request.key, f"<user>{request.prompt}<story>", text, ids, reason, self.weights_hash)

    def close(self) -> None:
        """Holds nothing."""
