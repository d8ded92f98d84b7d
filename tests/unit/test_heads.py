"""Terms of the loss that have weights: attention, speakers, phones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_loop import cut_off, make_trainer, run
from test_update import WORDS, make_batch, make_updater
from torch import nn

from asr.corpus.batches import Batch
from asr.corpus.utterance import Utterance
from asr.errors import ConfigError, TrainingError
from asr.experiment import load_experiment
from asr.features import AugmentConfig
from asr.features.augment import Augmenter
from asr.model.acoustic import AcousticModel
from asr.model.attention import END, AttentionConfig
from asr.text.tokenizer import Tokenizer
from asr.training.heads import PhonesConfig, SpeakerConfig, make_heads
from asr.training.loop import TrainingConfig
from asr.training.loss import LossConfig
from asr.training.terms import CtcTargets, Term
from asr.training.update import Updater

ATTENTION = AttentionConfig(
    hidden_size=8, embedding_size=4, attention_size=6, num_filters=2, filter_frames=3, dropout=0
)
SPEAKERS = ("ann", "bob", "", "ann", "eve", "bob", "eve", "ann")
# No word with "cab", and two phones for a letter.
LEXICON = "".join(f"{word} {' '.join(f'{letter} {letter}2' for letter in word)}\n" for word in WORDS if word != "cab")


def batch_with_speakers() -> Batch:
    return replace(make_batch(), speakers=SPEAKERS)


@pytest.fixture
def lexicon(tmp_path: Path) -> str:
    path = tmp_path / "words.dict"
    path.write_text(LEXICON, encoding="utf-8")
    return str(path)


def utterances() -> Iterator[tuple[Utterance, int]]:
    for number, (text, speaker) in enumerate(zip(WORDS, SPEAKERS, strict=True)):
        yield Utterance(id=f"utterance{number}", audio=b"", text=text, speaker=speaker), 4000 if number else 300


def all_terms(lexicon: str, *, num_layers: int = 1, **changes: object) -> Updater:
    """An updater with attention, a speaker head and a phone head."""

    def heads(model: AcousticModel, tokenizer: Tokenizer) -> list[Term]:
        return make_heads(SpeakerConfig(layer=1), PhonesConfig(lexicon=lexicon), model, tokenizer, utterances())[0]

    return make_updater(num_layers=num_layers, attention=ATTENTION, heads=heads, **changes)


def gradients(updater: Updater) -> dict[str, torch.Tensor]:
    return {name: value.grad for name, value in updater.objective.named_parameters()}


def test_without_any_there_is_nothing_of_them() -> None:
    updater = make_updater()
    assert updater.objective.terms == ()
    assert updater.objective.views == 1
    assert updater.accumulate([make_batch()], 0).terms == {}
    assert [name for name, _ in updater.objective.named_parameters() if not name.startswith("model.")] == []


@pytest.mark.parametrize("size", [1, 4])
def test_gradient_of_one_batch_equals_that_of_its_parts(size: int, lexicon: str) -> None:
    batch = batch_with_speakers()
    whole, parts = all_terms(lexicon, num_layers=2), all_terms(lexicon, num_layers=2)
    expected = whole.accumulate([batch], 0)
    found = parts.accumulate([batch.rows(at, at + size) for at in range(0, 8, size)], 0)
    assert found.terms == pytest.approx(expected.terms, rel=1e-5)
    assert list(found.terms) == ["attention", "speaker", "phones"]
    assert all(value > 0 for value in found.terms.values())
    wanted = gradients(whole)
    for name, value in gradients(parts).items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-3, atol=1e-5, msg=name)


def test_terms_are_those_of_each_utterance_alone(lexicon: str) -> None:
    """Two views without masks, each of one layer or the other; the text's end is learnt, and no token before its turn."""
    updater, batch = all_terms(lexicon, num_layers=2, loss=LossConfig.model_validate({"consistency": {}})), make_batch()
    batch = replace(batch, speakers=SPEAKERS)
    model, (speaker, phones) = updater.model, updater.objective.heads
    first, last = model.after_layers(batch.waveforms, batch.num_samples, (1, 2)).layers
    expected = dict.fromkeys(("attention", "speaker", "phones"), torch.zeros(()))
    for row, (text, name, count) in enumerate(zip(batch.texts, SPEAKERS, last.num_frames, strict=True)):
        below, above = first.hidden[row, :count], last.hidden[row, :count]
        tokens = updater.tokenizer.encode(text)
        scores = model.attention(above[None], count[None], torch.tensor([tokens]))[0]
        # A tenth of each target is spread evenly.
        chances = 0.9 * nn.functional.one_hot(torch.tensor([*tokens, END]), updater.tokenizer.size)
        chances += 0.1 / updater.tokenizer.size
        expected["attention"] = expected["attention"] - (chances * scores.log_softmax(-1)).sum()
        if name:
            chance = speaker.output(below.mean(0)).softmax(-1)[["ann", "bob", "eve"].index(name)]
            expected["speaker"] = expected["speaker"] - chance.log()
        if spoken := phones.lexicon.encode(text):
            loss = nn.functional.ctc_loss(
                phones.output(above).log_softmax(-1),
                torch.tensor(spoken),
                (int(count),),
                (len(spoken),),
                reduction="sum",
            )
            expected["phones"] = expected["phones"] + loss
    targets = CtcTargets(batch.texts * 2, updater.tokenizer, updater.device)
    augmenter = Augmenter(AugmentConfig(spec_augment=None), 0, updater.sample_rate)
    found = updater.objective(batch, targets, augmenter, 0).terms[1:]
    for value, (name, wanted) in zip(found, expected.items(), strict=True):
        torch.testing.assert_close(value, 2 * wanted.detach(), rtol=1e-4, atol=1e-4, msg=name)


def test_each_term_counts_what_the_configuration_says(lexicon: str) -> None:
    """A share takes from all that stands before it, another term is added."""
    loss = {"label_smoothing": 0.2, "consistency": {"weight": 0.4}, "attention": {"weight": 0.35}}
    updater = all_terms(
        lexicon,
        num_layers=2,
        loss=LossConfig.model_validate({"intermediate_ctc": {"layers": [1], "weight": 0.15}, **loss}),
        encoder={"bottleneck": {"after": 1, "weight": 0.25}},
    )
    batch = batch_with_speakers()
    targets = CtcTargets(batch.texts * 2, updater.tokenizer, updater.device)
    found = updater.objective(batch, targets, Augmenter(AugmentConfig(spec_augment=None), 0, 8000), 0)
    intermediate, smoothing, consistency, attention, price, speaker, phones = found.terms
    expected = 0.8 * (0.85 * found.ctc.sum() + 0.15 * intermediate) + 0.2 * smoothing
    expected = 0.65 * (expected + 0.4 * consistency) + 0.35 * attention
    expected = 0.7 * (expected + 0.25 * price + 0.5 * speaker) + 0.3 * phones
    torch.testing.assert_close(found.whole.detach(), expected)


def test_what_ctc_cannot_say_teaches_attention_nothing() -> None:
    with_long, without = make_batch((*WORDS[:7], "abc" * 60)), make_batch().rows(0, 7)
    updater, reference = make_updater(attention=ATTENTION), make_updater(attention=ATTENTION)
    found, expected = updater.accumulate([with_long], 0), reference.accumulate([without], 0)
    assert found.terms["attention"] == pytest.approx(expected.terms["attention"], rel=1e-4)


def test_only_known_speakers_and_words_count(lexicon: str) -> None:
    changed = replace(batch_with_speakers(), speakers=("who", *SPEAKERS[1:]))
    before, after = (all_terms(lexicon).accumulate([batch], 0).terms for batch in (batch_with_speakers(), changed))
    assert before["phones"] == after["phones"]
    assert before["speaker"] > after["speaker"]
    unpronounced = replace(batch_with_speakers().rows(4, 5), speakers=("who",))
    updater = all_terms(lexicon)
    terms = updater.accumulate([unpronounced], 0).terms
    assert (terms["speaker"], terms["phones"]) == (0, 0)


def test_an_adversary_turns_the_gradient_round_below_the_head() -> None:
    configs = [SpeakerConfig(weight=1.0, adversarial=each) for each in (False, True)]
    updaters = [
        make_updater(heads=lambda model, tokenizer, c=c: make_heads(c, None, model, tokenizer, utterances())[0])
        for c in configs
    ]
    before = [updater.accumulate([batch_with_speakers()], 0).terms["speaker"] for updater in updaters]
    helping, adverse = map(gradients, updaters)
    plain = make_updater()
    plain.accumulate([batch_with_speakers()], 0)
    name = "model.encoder.layers.0.norm.weight"
    ctc = gradients(plain)[name]
    share = helping[name] - ctc  # small beside both, whose rounding it keeps
    torch.testing.assert_close(share, ctc - adverse[name], rtol=1e-3, atol=1e-3 * share.abs().max().item())
    torch.testing.assert_close(helping["heads.0.output.weight"], adverse["heads.0.output.weight"])
    with torch.no_grad():
        updaters[0].model.encoder.layers[0].norm.weight -= 0.1 * (helping[name] - ctc)
    after = updaters[0].accumulate([batch_with_speakers()], 0).terms["speaker"]
    assert after < before[0] == before[1], "without an adversary it learns to tell them apart"


def test_what_teaches_nothing_is_said(lexicon: str) -> None:
    updater = make_updater()
    _, notes = make_heads(
        SpeakerConfig(), PhonesConfig(lexicon=lexicon), updater.model, updater.tokenizer, utterances()
    )
    assert notes == [
        "speaker head: 3 speakers; utterances that teach it nothing: 1 (no speaker is named)",
        f"phone head: 6 phones; utterances that teach it nothing: 1 (words that {lexicon} lacks: cab); "
        "utterances that teach it nothing: 1 (fewer encoder frames than their phones need)",
    ]
    # 480 samples have just the four frames that four phones need, and behind a pyramid half as many.
    model = make_updater(num_layers=2, encoder={"pyramid": {"after": 1}}).model
    spoken = [Utterance(id=text, audio=b"", text=text) for text in ("ab", "k l m n o p q")]
    for layer, short in (
        (1, ""),
        (2, "; utterances that teach it nothing: 1 (fewer encoder frames than their phones need)"),
    ):
        config = PhonesConfig(lexicon=lexicon, layer=layer)
        _, (note,) = make_heads(None, config, model, updater.tokenizer, [(each, 480) for each in spoken])
        lacking = f"words that {lexicon} lacks: k, l, m and 4 more"
        assert note == f"phone head: 6 phones; utterances that teach it nothing: 1 ({lacking}){short}"
    # A phone twice in a row needs a frame between, which four frames do not have; three words are all named.
    Path(lexicon).write_text("hum h h h\n", encoding="utf-8")
    config = PhonesConfig(lexicon=lexicon, layer=1)
    texts = [(Utterance(id=text, audio=b"", text=text), 480) for text in ("hum", "k l m")]
    _, (note,) = make_heads(None, config, model, updater.tokenizer, texts)
    assert f"{lexicon} lacks: k, l, m); utterances that teach it nothing: 1 (fewer" in note
    same = [(Utterance(id="a", audio=b"", text="cab", speaker="ann"), 4000)]
    with pytest.raises(TrainingError, match="expected two speakers or more in the training data, found 1"):
        make_heads(SpeakerConfig(), None, updater.model, updater.tokenizer, same)
    with pytest.raises(TrainingError, match="does not pronounce a single training text"):
        make_heads(None, PhonesConfig(lexicon=lexicon), updater.model, updater.tokenizer, same)


def test_a_resumed_training_ends_the_same_with_all_of_them(lexicon: str, tmp_path: Path) -> None:
    def trainer(folder: Path) -> object:
        loss = LossConfig.model_validate({"attention": {"sampling": 0.3}})
        config = TrainingConfig(epochs=1, checkpoint_every_updates=2)
        return make_trainer(folder, updater=all_terms(lexicon, loss=loss), batch=batch_with_speakers(), config=config)

    whole = trainer(tmp_path / "whole")
    run(whole, tmp_path / "whole")
    half = trainer(tmp_path / "half")
    checkpoint = cut_off(half, tmp_path / "half")
    assert not any("heads" in name for name in checkpoint.model)
    resumed = trainer(tmp_path / "half")
    resumed.recognizer.model.load_state_dict(checkpoint.model)
    resumed.resume(checkpoint.training)
    run(resumed, tmp_path / "half")
    expected = whole.updater.objective.state_dict()
    assert any(name.startswith("heads.") for name in expected)
    for name, value in resumed.updater.objective.state_dict().items():
        assert torch.equal(value, expected[name]) if isinstance(value, torch.Tensor) else value == expected[name], name


@pytest.mark.parametrize("edited", [f"{LEXICON}cab k\n", LEXICON.replace("a2", "z2")], ids=["one more", "another"])
def test_resuming_with_other_phones_is_refused(edited: str, lexicon: str, tmp_path: Path) -> None:
    config = TrainingConfig(epochs=1, checkpoint_every_updates=2)
    state = cut_off(make_trainer(tmp_path, updater=all_terms(lexicon), config=config), tmp_path).training
    assert state is not None
    make_trainer(tmp_path, updater=all_terms(lexicon)).resume(state)
    Path(lexicon).write_text(edited, encoding="utf-8")
    with pytest.raises(TrainingError, match=r"heads.*other phones or speakers.*loss\.phones\.lexicon.*--fresh"):
        make_trainer(tmp_path, updater=all_terms(lexicon)).resume(state)


def test_resuming_with_as_many_other_speakers_is_refused(tmp_path: Path) -> None:
    def with_speakers(*names: str) -> Updater:
        spoken = [(Utterance(id=name, audio=b"", text="a", speaker=name), 4000) for name in names]
        return make_updater(
            heads=lambda model, tokenizer: make_heads(SpeakerConfig(), None, model, tokenizer, spoken)[0]
        )

    config = TrainingConfig(epochs=1, checkpoint_every_updates=2)
    state = cut_off(make_trainer(tmp_path, updater=with_speakers("ann", "bob"), config=config), tmp_path).training
    assert state is not None
    make_trainer(tmp_path, updater=with_speakers("bob", "ann")).resume(state)
    with pytest.raises(TrainingError, match="other phones or speakers"):
        make_trainer(tmp_path, updater=with_speakers("bob", "carl")).resume(state)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["decoders=[{kind: joint}]"], r"kind joint needs an attention decoder: set attention=\{\}"),
        (["loss.attention.weight=0.5"], r"loss\.attention: there is no attention decoder to learn: set attention=\{\}"),
        (["loss.speaker={layer: 9}"], r"loss\.speaker\.layer=9: there are 3 layers"),
        (["loss.phones={}"], r"loss\.phones\.lexicon"),
        (["init.freeze=[attention]"], "no part 'attention'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_experiment(None, overrides)
    assert load_experiment(
        None, ["attention={}", "loss.attention.weight=0.5", "decoders=[{kind: joint}]", "init.freeze=[attention]"]
    )


def test_bfloat16_gives_nearly_the_same_terms(lexicon: str) -> None:
    exact, half = (all_terms(lexicon, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    expected, found = (updater.accumulate([batch_with_speakers()], 0).terms for updater in (exact, half))
    assert found == pytest.approx(expected, rel=0.05)
    assert all(value.dtype == torch.float32 for value in gradients(half).values())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_same_on_a_gpu(lexicon: str) -> None:
    here, there = all_terms(lexicon), all_terms(lexicon, device="cuda")
    expected, found = (updater.accumulate([batch_with_speakers()], 0).terms for updater in (here, there))
    assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("setting", [{"label_smoothing": 0.5}, {"sampling": 0.9}])
def test_smoothing_and_sampling_change_what_attention_learns(setting: dict[str, float]) -> None:
    def value(**settings: float) -> float:
        loss = LossConfig.model_validate({"attention": {"label_smoothing": 0.0, **settings}})
        return make_updater(attention=ATTENTION, loss=loss).accumulate([make_batch()], 0).terms["attention"]

    assert value(**setting) != pytest.approx(value(), rel=1e-6)
