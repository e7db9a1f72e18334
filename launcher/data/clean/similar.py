"""Short signatures by which nearly equal rows find each other (MinHash, by datasketch).

Owns the numbers that stand for a row's words. Must not know which rows are compared.

Broder, "On the resemblance and containment of documents", 1997: the share of equal places in two signatures estimates
the share of word 5-grams that two rows have in common (Jaccard). Rows that agree in one band of a signature at least
are candidates (Leskovec, Rajaraman & Ullman, "Mining of Massive Datasets", chapter 3).
"""

from __future__ import annotations

import hashlib

import numpy as np

from launcher.data.clean.words import Runs, spoken, words
from launcher.data.feed.order import UInt64Array
from launcher.data.formats import Conversation
from launcher.data.tokens import AnyArray

PLACES = 128
_GRAM = 5
_AT_ONCE = 4096
# A candidate is looked at again, so that a wrong one costs a moment, and a missed one is a duplicate that stays.
_WEIGHTS = (0.1, 0.9)
# datasketch finds no bands for more; candidates are compared with the user's own number all the same.
_MOST_SIMILAR = 0.95


class Similar:
    """Makes the signatures and band keys of rows."""

    def __init__(self, similarity: float) -> None:
        # Takes half a second: scipy.
        from datasketch import MinHash, MinHashLSH

        bands = MinHashLSH(threshold=min(similarity, _MOST_SIMILAR), num_perm=PLACES, weights=_WEIGHTS)
        self.bands: int = bands.b
        """Keys per row."""
        self._band_places: int = bands.r
        self._empty = MinHash(num_perm=PLACES, hashfunc=int, scheme="affine32")

    def marks(self, conversation: Conversation) -> tuple[UInt64Array, AnyArray]:
        """(a key per band, the signature's low 16 bits per place); keys of 0 where there are no words.

        Of two unequal places the low 16 bits agree by chance in one of 65,536.
        """
        said = words(spoken(conversation) + "\n" + _documents(conversation))
        if not said:
            return np.zeros(self.bands, dtype=np.uint64), np.zeros(PLACES, dtype=np.uint16)
        grams = np.unique(Runs(said).of(min(_GRAM, len(said))) & np.uint64(0xFFFFFFFF))
        sketch = self._empty.copy()
        for start in range(0, len(grams), _AT_ONCE):
            sketch.update_batch(grams[start : start + _AT_ONCE].tolist())
        places = np.asarray(sketch.hashvalues, dtype=np.uint32)
        return np.array([self._key(places, band) for band in range(self.bands)], np.uint64), places.astype(np.uint16)

    def _key(self, places: AnyArray, band: int) -> int:
        mine = places[band * self._band_places : (band + 1) * self._band_places].tobytes()
        return int.from_bytes(hashlib.blake2b(bytes([band]) + mine, digest_size=8).digest(), "little") or 1


def _documents(conversation: Conversation) -> str:
    return "\n".join(str(text) for document in conversation.documents for text in document.values())
