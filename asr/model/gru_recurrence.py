"""The recurrence of the GRU on a CPU, with its gradient written out.

torch's kernel on a CPU sums the gradient of the recurrent weights at every time step and runs one direction after the
other. Here both directions share each step's matrix product, and the weights' gradient is one product at the end:
`benchmarks/gru.py` tells what that is worth. On a GPU cuDNN does better than either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def gru_directions(cells: Sequence[nn.GRU], inputs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs (S, B, H) of each of `cells`, one-layer GRUs of equal size, for its own `inputs` (S, B, I).

    Equal to `cell(input)[0]` for each pair, up to rounding, and so are its gradients.
    """
    # In torch's order: input weights, recurrent weights, input biases, recurrent biases, of each layer.
    weights = [list(cell.parameters()) for cell in cells]
    gates = [
        nn.functional.linear(frames, input_weight, input_bias)
        for frames, (input_weight, _, input_bias, _) in zip(inputs, weights, strict=True)
    ]
    hidden: Tensor = _GruRecurrence.apply(
        torch.stack(gates, dim=1),
        torch.stack([weight for _, weight, _, _ in weights]),
        torch.stack([bias for _, _, _, bias in weights]),
    )
    return list(hidden.unbind(1))


class _GruRecurrence(torch.autograd.Function):
    """States (S, D, B, H) from gates (S, D, B, 3H), weights (D, 3H, H) and biases (D, 3H); order r, z, n as in torch."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """States of every step t, with a = gates[t] and u = weight @ h_{t-1} + bias.

        r = sigma(a_r + u_r)    z = sigma(a_z + u_z)    n = tanh(a_n + r * u_n)    h_t = n + z * (h_{t-1} - n)
        """
        num_steps, num_directions, batch, triple = gates.shape
        size = triple // 3
        states = gates.new_empty(num_steps + 1, num_directions, batch, size)
        states[0].zero_()
        products, sigmoids = torch.empty_like(gates), gates.new_empty(num_steps, num_directions, batch, 2 * size)
        candidates = gates.new_empty(num_steps, num_directions, batch, size)
        weight_t, bias_b = weight.transpose(1, 2).contiguous(), bias[:, None, :].expand(num_directions, batch, triple)
        # Views are made before the loop: in it, each call counts.
        h, u, a_rz, a_n = (
            states.unbind(),
            products.unbind(),
            gates[..., : 2 * size].unbind(),
            gates[..., 2 * size :].unbind(),
        )
        u_rz, u_n = products[..., : 2 * size].unbind(), products[..., 2 * size :].unbind()
        rz, n = sigmoids.unbind(), candidates.unbind()
        r, z = sigmoids[..., :size].unbind(), sigmoids[..., size:].unbind()
        for t in range(num_steps):
            torch.baddbmm(bias_b, h[t], weight_t, out=u[t])
            torch.add(a_rz[t], u_rz[t], out=rz[t]).sigmoid_()
            torch.addcmul(a_n[t], r[t], u_n[t], out=n[t]).tanh_()
            torch.lerp(n[t], h[t], z[t], out=h[t + 1])
        ctx.save_for_backward(weight, states, products[..., 2 * size :], sigmoids, candidates)
        return states[1:]

    @staticmethod
    def backward(ctx: Any, d_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of gates, weight and bias.

        With g the gradient of h_t, from the output and from step t+1, those before the functions of the gates are

        n: g * (1 - z) * (1 - n^2)      z: g * (h_{t-1} - n) * z * (1 - z)      r: (that of n) * u_n * r * (1 - r)

        so each is g times a factor that is known before the loop, which is left with one product per step.
        """
        weight, states, u_n, sigmoids, n = ctx.saved_tensors
        num_steps, num_directions, batch, size = n.shape
        r, z, before = sigmoids[..., :size], sigmoids[..., size:], states[:-1]
        factor_n = (1 - z) * (1 - n * n)
        # Gradients of the products u: their r and z parts are those of the gates, that of u_n has a factor r.
        d_products = n.new_empty(num_steps, num_directions, batch, 3, size)
        torch.mul(factor_n, u_n * r * (1 - r), out=d_products[..., 0, :])
        torch.mul(before - n, z * (1 - z), out=d_products[..., 1, :])
        torch.mul(factor_n, r, out=d_products[..., 2, :])
        flat = d_products.view(num_steps, num_directions, batch, 3 * size)
        d_all = torch.empty_like(n)
        d_h = n.new_zeros(num_directions, batch, size)
        z_t, out_t, all_t, all_3 = z.unbind(), d_states.unbind(), d_all.unbind(), d_all.unsqueeze(3).unbind()
        products_t, flat_t = d_products.unbind(), flat.unbind()
        for t in range(num_steps - 1, -1, -1):
            torch.add(d_h, out_t[t], out=all_t[t])
            products_t[t].mul_(all_3[t])
            d_h = torch.baddbmm(all_t[t] * z_t[t], flat_t[t], weight)
        d_gates = d_products.clone()
        torch.mul(factor_n, d_all, out=d_gates[..., 2, :])
        by_step = flat.permute(1, 3, 0, 2).reshape(num_directions, 3 * size, num_steps * batch)
        d_weight = torch.bmm(by_step, before.transpose(0, 1).reshape(num_directions, num_steps * batch, size))
        return d_gates.view_as(flat), d_weight, flat.sum((0, 2))
