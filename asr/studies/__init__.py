"""Studies: many trainings that differ in what is asked about, side by side or in search of the best.

In: a request as of `asr run`, and what varies. Out: ordinary run folders, one page that shows what they say, and JSON.
Decided here: what varies and how that is written, which runs there are, what they share, and which tests compare them.
"""
