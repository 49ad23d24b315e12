"""The keys and values of all sequences, in the panels that the kernels read.

Each layer has one array for all slots. Memory that no sequence has written to is reserved but not used.
"""

from numpy import float32
from numpy.typing import NDArray

from tunesmith.families.array_panels import whole_panels
from tunesmith.kernels.vectors import LANES
from tunesmith.system.pages import fresh_array, release_pages

ROOM = 1024  # positions of a slot at first; doubled as needed
FEW = 4  # slots at first; doubled as needed


class KeyValues:
    """Keys and values by layer and slot; grows as slots and positions are needed."""

    def __init__(self, layers: int, kv_heads: int, head_size: int) -> None:
        self.room = 0
        self._layers, self._kv_heads, self._head_size = layers, kv_heads, head_size
        self._filled: list[int] = []  # positions of each slot that have been written
        self.keys: list[NDArray[float32]] = []  # of each layer, [slots, kv heads, room / 16, head size, 16]
        self.values: list[NDArray[float32]] = []  # [slots, kv heads, panels of the head, room, 16]

    def hold(self, slot: int, end: int) -> bool:
        """Makes room for the first `end` positions of a slot.

        True if the arrays were replaced.
        """
        room = self.room or ROOM
        while room < end:
            room *= 2
        enlarged = room > self.room or slot >= len(self._filled)
        if enlarged:
            slots = len(self._filled)
            self._enlarge(slots if slot < slots else max(slot + 1, 2 * slots, FEW), room)
        self._filled[slot] = max(self._filled[slot], end)
        return enlarged

    def copy(self, source: int, target: int, length: int) -> bool:
        """Copies the first `length` positions of a slot to another.

        True if the arrays were replaced.
        """
        enlarged = self.hold(target, length)
        panels = whole_panels(length)
        for keys, values in zip(self.keys, self.values, strict=True):
            keys[target, :, :panels] = keys[source, :, :panels]
            values[target, :, :, :length] = values[source, :, :, :length]
        return enlarged

    def clear(self, slot: int) -> None:
        """Empties a slot and frees its memory."""
        if slot < len(self._filled) and self._filled[slot]:
            self._filled[slot] = 0
            for array in (*self.keys, *self.values):
                release_pages(array[slot])

    def _enlarge(self, slots: int, room: int) -> None:
        """Replaces the arrays layer by layer, so that only one layer is in memory twice."""
        for layer in range(self._layers):
            keys = fresh_array((slots, self._kv_heads, room // LANES, self._head_size, LANES))
            values = fresh_array((slots, self._kv_heads, whole_panels(self._head_size), room, LANES))
            if layer == len(self.keys):
                self.keys.append(keys)
                self.values.append(values)
                continue
            for slot, filled in enumerate(self._filled):
                panels = whole_panels(filled)
                keys[slot, :, :panels] = self.keys[layer][slot, :, :panels]
                values[slot, :, :, :filled] = self.values[layer][slot, :, :, :filled]
            self.keys[layer], self.values[layer] = keys, values
        self._filled += [0] * (slots - len(self._filled))
        self.room = room
