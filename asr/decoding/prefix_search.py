"""The compiled heart of the beam decoder: prefix search.

Prefixes are nodes of a tree kept in arrays, a row of `tree` for each: parent, token, first child, next sibling, first and
last frame in the beam, place in the beam, place in the tree of words that may be written. A prefix keeps two
log-probabilities, over all its alignments that end in a blank and that end in its last token; where two ways lead to one
prefix, they are added.

Words (`word_tree.py`) enter where a prefix is followed by a token: what that is worth is added to the frame's
log-probability, and the place in their tree is a column of `tree`. A language model would enter there too.

Source: Graves and Jaitly 2014, "Towards End-to-End Speech Recognition with Recurrent Neural Networks", algorithm 1, and
Hannun et al. 2014, "First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs".
"""

from __future__ import annotations

import math

import numpy as np

from asr.compiled import Floats, Integers, compiled
from asr.decoding.prefix_scores import BLANK, SPOKEN, log_add
from asr.decoding.word_tree import ANYTHING, NONE, WORDS_TYPE, Words, WordTree, walk

PARENT, TOKEN, CHILD, SIBLING, FIRST, LAST, PLACE, WORDS = range(8)
TOTAL = 2  # beside BLANK and SPOKEN
# Wider than what rounding can do to a sum of log-probabilities, narrower than any difference that matters.
_ROUNDING = 1e-6


@compiled("int64(float32[::1], float64, int64[::1])")
def _likeliest(row: Floats, bound: float, likely: Integers) -> int:
    """How many tokens of `row` (V,), the blank apart, lie above `bound`, at most len(likely), which gets them sorted."""
    size = 0
    for token in range(1, len(row)):
        log_prob = row[token]
        if log_prob < bound or (size == len(likely) and log_prob <= row[likely[size - 1]]):
            continue
        size = min(size + 1, len(likely))
        place = size - 1
        while place > 0 and row[likely[place - 1]] < log_prob:
            likely[place] = likely[place - 1]
            place -= 1
        likely[place] = token
    return size


@compiled("int64(int64[:, ::1], float64[:, ::1], int64, int64, int64, float64, float64)")
def _insert(keys: Integers, scores: Floats, size: int, origin: int, token: int, blank: float, spoken: float) -> int:
    """How many candidates there are after one more, unless it is too bad; the best first, the older first among equals."""
    total = log_add(blank, spoken)
    if size == len(keys):
        if total <= scores[size - 1, TOTAL]:
            return size
        size -= 1
    place = size
    while place > 0 and scores[place - 1, TOTAL] < total:
        for column in range(2):  # column by column: assigning rows takes seconds to compile
            keys[place, column] = keys[place - 1, column]
        for column in range(3):
            scores[place, column] = scores[place - 1, column]
        place -= 1
    keys[place, 0], keys[place, 1] = origin, token
    scores[place, BLANK], scores[place, SPOKEN], scores[place, TOTAL] = blank, spoken, total
    return size + 1


@compiled("int64(int32[:, ::1], int64, int64)")
def _find_child(tree: Integers, parent: int, token: int) -> int:
    """The node of `parent` followed by `token`, or NONE."""
    node = tree[parent, CHILD]
    while node != NONE and tree[node, TOKEN] != token:
        node = tree[node, SIBLING]
    return int(node)


@compiled(
    f"int64(float32[::1], int32[:, ::1], int64[::1], float64[:, ::1], int64[:, ::1], float64[:, ::1], {WORDS_TYPE})"
)
def _collect_stays(
    row: Floats,
    tree: Integers,
    beam: Integers,
    scores: Floats,
    keys: Integers,
    new_scores: Floats,
    words: Words,
) -> int:
    """How many candidates there are when each prefix of the beam stays what it is, by a blank or a repeat.

    A prefix whose parent is in the beam too is also the parent's extension; that way is added here.
    """
    size = 0
    is_limited = words[0].size > 0
    for place in range(len(beam)):
        token = tree[beam[place], TOKEN]
        spoken = scores[place, SPOKEN] + row[token]
        parent = tree[beam[place], PARENT]
        if parent != NONE and tree[parent, PLACE] != NONE:
            state = BLANK if tree[parent, TOKEN] == token else TOTAL
            gain = walk(words, tree[parent, WORDS], token)[1] if is_limited else 0.0
            spoken = log_add(spoken, scores[tree[parent, PLACE], state] + row[token] + gain)
        size = _insert(keys, new_scores, size, place, 0, scores[place, TOTAL] + row[0], spoken)
    return size


@compiled(
    "int64(float32[::1], int32[:, ::1], int64[::1], float64[:, ::1], int64[::1], int64, int64[:, ::1], float64[:, ::1], "
    f"{WORDS_TYPE})"
)
def _collect_extensions(
    row: Floats,
    tree: Integers,
    beam: Integers,
    scores: Floats,
    likely: Integers,
    size: int,
    keys: Integers,
    new_scores: Floats,
    words: Words,
) -> int:
    """How many candidates there are, `size` before, after each prefix of the beam was followed by each of `likely`."""
    is_limited = words[0].size > 0
    for place in range(len(beam)):
        last = tree[beam[place], TOKEN]
        for token in likely:
            gain = row[token]
            best = scores[place, TOTAL] + gain
            if best == -math.inf or (size == len(keys) and best <= new_scores[size - 1, TOTAL]):
                break  # the tokens after this one gain still less
            # A token can follow itself only after a blank: without one it is the same sound going on.
            spoken = scores[place, BLANK] + gain if token == last else best
            node = _find_child(tree, beam[place], token)
            if spoken > -math.inf and (node == NONE or tree[node, PLACE] == NONE):
                if is_limited:
                    place_of_words, worth = walk(words, tree[beam[place], WORDS], token)
                    spoken = spoken + worth if place_of_words != NONE else -math.inf
                if spoken > -math.inf:
                    size = _insert(keys, new_scores, size, place, token, -math.inf, spoken)
    return size


@compiled(f"int64(int32[:, ::1], int64, int64[::1], int64[::1], int64[:, ::1], int64, {WORDS_TYPE})")
def _move_beam(
    tree: Integers,
    num_nodes: int,
    beam: Integers,
    new_beam: Integers,
    keys: Integers,
    frame: int,
    words: Words,
) -> int:
    """How many nodes `tree` has after `new_beam` was filled with the nodes that `keys` mean, seen from `beam`."""
    tree[beam, PLACE] = NONE
    is_limited = words[0].size > 0
    for place in range(len(new_beam)):
        node, token = beam[keys[place, 0]], keys[place, 1]
        if token != 0:
            parent = node
            node = _find_child(tree, parent, token)
            if node == NONE:
                node = num_nodes
                num_nodes += 1
                tree[node, PARENT], tree[node, TOKEN], tree[node, CHILD] = parent, token, NONE
                tree[node, SIBLING], tree[parent, CHILD] = tree[parent, CHILD], node
                tree[node, FIRST] = frame
                tree[node, WORDS] = walk(words, tree[parent, WORDS], token)[0] if is_limited else 0
        tree[node, PLACE] = place
        tree[node, LAST] = frame
        new_beam[place] = node
    return num_nodes


def search(
    log_probs: Floats, width: int, min_token_log_prob: float, words: WordTree = ANYTHING
) -> tuple[Integers, Integers, Floats]:
    """The prefix tree, and the nodes and scores (BLANK, SPOKEN, TOTAL) of the last beam, the best first.

    Ties go to the prefix that was in the beam, then to the extension of the better prefix, then to the likelier token,
    then to the lower id.

    Args:
        log_probs: (S, V), blank at 0, without NaN.
        width: prefixes kept after each frame.
        min_token_log_prob: prefixes that the beam does not have yet come of tokens at least as probable as this; -inf: of
            any. What leads to those that it has is added, however improbable.
        words: no prefix leaves their tree; the last word may be unfinished.
    """
    found: tuple[Integers, Integers, Floats] = _search(log_probs, width, min_token_log_prob, (*words,))
    return found


@compiled(f"Tuple((int32[:, ::1], int64[::1], float64[:, ::1]))(float32[:, ::1], int64, float64, {WORDS_TYPE})")
def _search(
    log_probs: Floats, width: int, min_token_log_prob: float, words: Words
) -> tuple[Integers, Integers, Floats]:
    num_frames, vocabulary = log_probs.shape
    tree = np.empty((1 + num_frames * width, 8), np.int32)
    tree[0] = NONE
    tree[0, TOKEN] = tree[0, PLACE] = tree[0, WORDS] = 0
    num_nodes = 1
    beam = np.zeros(1, np.int64)
    scores = np.array([[0.0, -math.inf, 0.0]])
    # What words are worth is at most 0, so bounds and orders that leave it out hold.
    # Of one prefix's extensions at most `width` survive; one more token, for repeating the last one is less probable. But
    # where not all may be written, any of them may be the first that may.
    likely = np.empty(vocabulary - 1 if words[0].size else min(width + 1, vocabulary - 1), np.int64)
    for frame in range(num_frames):
        row = log_probs[frame]
        keys, new_scores = np.empty((width, 2), np.int64), np.empty((width, 3))
        size = _collect_stays(row, tree, beam, scores, keys, new_scores, words)
        bound = min_token_log_prob
        if size == width and scores[0, TOTAL] > -math.inf:
            # What is below cannot enter even behind the best prefix.
            bound = max(bound, new_scores[size - 1, TOTAL] - scores[0, TOTAL] - _ROUNDING)
        num_likely = _likeliest(row, bound, likely)
        size = _collect_extensions(row, tree, beam, scores, likely[:num_likely], size, keys, new_scores, words)
        new_beam = np.empty(size, np.int64)
        num_nodes = _move_beam(tree, num_nodes, beam, new_beam, keys, frame, words)
        beam, scores = new_beam, new_scores[:size]
    return tree, beam, scores


@compiled("int64[:, ::1](int32[:, ::1], int64)")
def spell(tree: Integers, node: int) -> Integers:
    """Token, first and last frame in the beam (1 + U, 3) of the prefixes from the empty one to `node`."""
    length = 0
    above = node
    while above != NONE:
        length += 1
        above = tree[above, PARENT]
    path = np.empty((length, 3), np.int64)
    for row in range(length - 1, -1, -1):
        path[row, 0], path[row, 1], path[row, 2] = tree[node, TOKEN], tree[node, FIRST], tree[node, LAST]
        node = tree[node, PARENT]
    return path
