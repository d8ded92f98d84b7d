"""GRUs without a reset gate, with rectifiers, made for speech; letters as in `simple.py`."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from asr.model.cells.recurrent import Product, RecurrentCell, States
from asr.model.light_recurrence import light_gru, takes


class LightGRU(RecurrentCell):
    """Light gated recurrent unit.

        a_t = relu(BN(W_a x_t) + U_a h_{t-1})      candidate
        z_t = sigma(BN(W_z x_t) + U_z h_{t-1})     update gate
        h_t = z_t * h_{t-1} + (1 - z_t) * a_t

    BN is batch normalisation over all valid frames of a batch; its offset is the only bias. A rectifier has no upper end:
    where the largest singular value of U_a is above 1, the state may grow without bound, see `StabilisedLightGRU`. With
    `layer_norm`, layer normalisations that learn stand in the place of BN, and around U_a h_{t-1} and U_z h_{t-1}.

    Source: Ravanelli et al. 2018, "Light Gated Recurrent Units for Speech Recognition", equations 8 to 10.

    Example:
        The weights are 4 and 0: the candidate is 4 x_t, the gate stands at 1/2, as the norm before training does nothing.

        >>> from asr.model.cells.recurrent import with_weights
        >>> cell = with_weights(LightGRU(1, 1), weight_ih_l0=[[4], [0]]).eval()
        >>> outputs, _ = cell(torch.tensor([2.0, -5.0, 1.0]).reshape(3, 1, 1))
        >>> [round(value, 3) for value in outputs.flatten().tolist()]
        [4.0, 2.0, 3.0]
    """

    gates = 2
    normed = (1, 1)
    products = (2,)
    has_bias = False
    keep_gate = (1, 1)
    # Candidate and gate are 0 there, and so is the state: else it could go on growing until no gradient is finite. Under
    # layer normalisation, which U h then has too, it cannot grow.
    padding = -1e4
    product_eps: ClassVar[float] = 0.0  # of the normalisation of U h, where there is one

    def make_input_norm(self, layer_norm: bool) -> nn.Module:
        """Batch normalisation, unless layer normalisation is asked for."""
        return super().make_input_norm(layer_norm) if layer_norm else nn.BatchNorm1d(self.gates * self.hidden_size)

    def recur(
        self, projected: Tensor, states: States, product_type: torch.dtype = torch.float32
    ) -> tuple[Tensor, States]:
        """What `step` gives frame by frame, compiled where that is possible and `step` is as it was."""
        if not takes(projected, self.weight_hh_l0, self.product_eps) or not self.agrees(LightGRU._compiled):
            return super().recur(projected, states, product_type)
        outputs = self._compiled(projected, states, product_type)
        return outputs, (outputs[-1],)

    def _compiled(self, projected: Tensor, states: States, product_type: torch.dtype = torch.float32) -> Tensor:
        return light_gru(projected, self.weight_hh_l0, states[0], self.product_eps, product_type)

    def step(self, x: Tensor, states: States, products: tuple[Product, ...]) -> tuple[Tensor, States]:
        """One frame."""
        ((h,), (u,)) = states, products
        a, z = (x + u(h)).chunk(2, -1)
        h = torch.lerp(torch.relu(a), h, torch.sigmoid(z))
        return h, (h,)


class StabilisedLightGRU(LightGRU):
    """Light GRU whose recurrent product is layer-normalised, so that the state stays bounded.

        a_t = relu(BN(W_a x_t) + LN(U h_{t-1})_a)
        z_t = sigma(BN(W_z x_t) + LN(U h_{t-1})_z)
        h_t as in `LightGRU`

    LN acts on both blocks of U h together and learns nothing, also with `layer_norm`, where two that learn stand in the
    place of BN: a learnt scale would lift the bound.

    Source: Moumen & Parcollet 2023, "Stabilising and Accelerating Light Gated Recurrent Units for Automatic Speech
    Recognition", in the form of SpeechBrain's `SLiGRU`.

    Example:
        The state, however large, enters through its normalised product: here U h = (8, 0), so LN(U h) = (1, -1).

        >>> from asr.model.cells.recurrent import with_weights
        >>> cell = with_weights(StabilisedLightGRU(1, 1), weight_hh_l0=[[1], [0]]).eval()
        >>> output, _ = cell(torch.zeros(1, 1, 1), torch.full((1, 1, 1), 8.0))
        >>> z = torch.tensor(-1.0).sigmoid().item()
        >>> round(output.item(), 3) == round(z * 8 + (1 - z) * 1, 3)
        True
    """

    product_eps = 1e-5

    def __init__(self, input_size: int, hidden_size: int, *, layer_norm: bool = False) -> None:
        super().__init__(input_size, hidden_size, layer_norm=layer_norm)
        self.norms_hh[0] = nn.LayerNorm(2 * hidden_size, eps=self.product_eps, elementwise_affine=False)
