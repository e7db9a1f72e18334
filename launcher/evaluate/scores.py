"""How near an answer is to the one that is looked for: the formulas, by the names that users give them.

Owns what is made of two texts, and of many such pairs. Must not know where answers come from. No torch; the login side
reads the names.
"""

from __future__ import annotations

import json
import math
import re
import string
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

ROUGE = "rouge"
"""The metric that needs a package of its own, `rouge_score`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One way to score."""

    measures: tuple[str, ...]
    """What it tells of a set, in the names of metrics.jsonl; more is better."""
    columns: int
    """Numbers that it makes of each answer, to be added up."""
    score: Callable[[str, str], Sequence[float]]
    """Those of (answer, reference)."""
    summary: Callable[[Sequence[float], int], Sequence[float]]
    """The measures, from the sums of the columns and how many answers there are."""
    wants: str | None = None
    """What a reference must be, in words; None where any text will do."""
    accepts: Callable[[str], bool] = bool
    """Whether it is; not asked where any will do."""


def _rouge(answer: str, reference: str) -> list[float]:
    """F1 of common words, of common pairs of words, and of the longest common subsequence (Lin, 2004), as the package
    rouge-score has them: lower case, letters a to z and digits only, words stemmed (Porter).
    """
    found = _rouge_scorer().score(reference, answer)
    return [found[name].fmeasure for name in ("rouge1", "rouge2", "rougeL")]


@cache
def _rouge_scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """In lower case, without punctuation (ASCII), English articles and superfluous space: SQuAD's own script
    (Rajpurkar et al., arXiv:1606.05250, section 6.1).
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _squad(answer: str, reference: str) -> list[float]:
    """Whether both are the same, and the F1 of the words that they share; of nothing and nothing, 1."""
    said, wanted = normalised(answer), normalised(reference)
    return [float(said == wanted), _f1(said.split(), wanted.split())]


def _f1(said: Sequence[str], wanted: Sequence[str]) -> float:
    if not said or not wanted:
        return float(said == wanted)
    return _harmonic((Counter(said) & Counter(wanted)).total(), len(said), len(wanted))


def _harmonic(common: float, said: float, wanted: float) -> float:
    """The harmonic mean of common / said and common / wanted."""
    return 2 * common / (said + wanted) if said + wanted else 0.0


def _fields(answer: str, reference: str) -> list[float]:
    """How many fields are right, were said and are wanted; and whether the answer is a JSON object at all."""
    said, wanted = fields_of(answer), fields_of(reference)
    mine, theirs = said or Counter(), wanted or Counter()
    return [(mine & theirs).total(), mine.total(), theirs.total(), float(said is not None)]


def _fields_summary(sums: Sequence[float], answers: int) -> list[float]:
    """Precision, recall and F1 over all fields of all answers (micro), and the share of answers that are JSON."""
    right, said, wanted, objects = sums
    precision, recall = right / said if said else 0.0, right / wanted if wanted else 0.0
    return [precision, recall, _harmonic(right, said, wanted), objects / answers]


def fields_of(text: str) -> Counter[tuple[str, str]] | None:
    """The fields of a JSON object that hold no others, each as its path and its value, and how often each is there;
    None where the text is no JSON object.

    The places of a list do not count. Texts are the same whatever their space, numbers whatever their spelling.
    """
    try:
        value = json.loads(text)
        return Counter(_leaves(value, "")) if isinstance(value, dict) else None
    # A model may open a thousand brackets.
    except (ValueError, RecursionError):
        return None


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            # As JSON has it: a name may hold anything, a dot as well.
            yield from _leaves(item, f"{path}.{json.dumps(name)}")
    elif isinstance(value, list) and value:
        for item in value:
            yield from _leaves(item, f"{path}[]")
    else:
        yield path, _spelt(value)


def _spelt(value: Any) -> str:
    if isinstance(value, str):
        value = " ".join(value.split())
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)


def _is_object(text: str) -> bool:
    return fields_of(text) is not None


def _means(sums: Sequence[float], answers: int) -> list[float]:
    return [each / answers for each in sums]


METRICS = {
    ROUGE: Metric(measures=("rouge_1", "rouge_2", "rouge_l"), columns=3, score=_rouge, summary=_means),
    "squad": Metric(measures=("exact_match", "token_f1"), columns=2, score=_squad, summary=_means),
    "fields": Metric(
        measures=("field_precision", "field_recall", "field_f1", "json_valid"),
        columns=4,
        score=_fields,
        summary=_fields_summary,
        wants="a JSON object",
        accepts=_is_object,
    ),
}
"""By name."""


def told(metric: str, rows: Sequence[Sequence[float]]) -> dict[str, float]:
    """The measures of a metric from the numbers made of each answer; sums are exact, so that their order is nothing."""
    made = METRICS[metric]
    sums = [math.fsum(column) for column in zip(*rows, strict=True)]
    return dict(zip(made.measures, made.summary(sums, len(rows)), strict=True))
