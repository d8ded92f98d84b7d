"""Cells written from their equations are torch's kernels, in numbers and gradients, at any size."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ragged import encoder_config, ragged_features, shaken
from torch import Tensor, nn

from asr.lengths import valid_mask
from asr.model import CELLS, Encoder
from asr.model.cells import equations

unhurried = settings(max_examples=40)
KERNELS = st.sampled_from(["gru", "lstm", "rnn"])
SIZES = st.integers(1, 7)
EXACT = {"rtol": 1e-6, "atol": 1e-6}


def gradients(outputs: Tensor, module: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """Gradients of a sum in which every output has a weight of its own."""
    weights = torch.randn(outputs.shape, dtype=outputs.dtype, generator=torch.Generator().manual_seed(1))
    names, parameters = zip(*module.named_parameters(), strict=True)
    found = torch.autograd.grad((outputs * weights).sum(), [inputs, *parameters])
    return dict(zip(["inputs", *names], found, strict=True))


@unhurried
@given(KERNELS, SIZES, SIZES, SIZES, SIZES, st.booleans())
def test_a_reference_with_the_weights_of_a_kernel_is_the_kernel(
    name: str, num_frames: int, batch: int, width: int, hidden: int, from_zero: bool
) -> None:
    torch.manual_seed(num_frames)
    kernel, reference = CELLS[name](width, hidden).double(), equations(name)(width, hidden).double()
    reference.load_state_dict(kernel.state_dict())
    inputs = torch.randn(num_frames, batch, width, dtype=torch.float64, requires_grad=True)
    parts = tuple(torch.randn(1, batch, hidden, dtype=torch.float64) for _ in range(reference.num_states))
    state = None if from_zero else parts if len(parts) > 1 else parts[0]
    (expected, expected_state), (found, found_state) = kernel(inputs, state), reference(inputs, state)
    torch.testing.assert_close(found, expected, **EXACT)
    torch.testing.assert_close(found_state, expected_state, **EXACT)
    torch.testing.assert_close(
        gradients(found, reference, inputs), gradients(expected, kernel, inputs), **EXACT, check_stride=False
    )


@unhurried
@given(
    KERNELS,
    st.lists(st.integers(1, 12), min_size=1, max_size=4),
    st.integers(1, 3),
    st.booleans(),
    SIZES,
    st.sampled_from(["zero", "learnt"]),
)
def test_an_encoder_of_references_is_the_encoder_of_kernels(
    name: str, lengths: list[int], num_layers: int, bidirectional: bool, hidden: int, initial_state: str
) -> None:
    shape = {"num_layers": num_layers, "bidirectional": bidirectional, "hidden_size": hidden, "factor": 1}
    kernels, references = (
        Encoder(encoder_config(cell=cell, initial_state=initial_state, **shape), num_features=5).double()
        for cell in (name, f"{name}_reference")
    )
    references.load_state_dict(shaken(kernels).state_dict())
    features, num_frames = ragged_features(lengths, 5)
    inputs = features.double().requires_grad_()
    inside = valid_mask(num_frames, features.shape[1])[..., None]
    expected, found = kernels(inputs * inside, num_frames)[0], references(inputs * inside, num_frames)[0]
    torch.testing.assert_close(found, expected, **EXACT)
    torch.testing.assert_close(gradients(found, references, inputs), gradients(expected, kernels, inputs), **EXACT)
