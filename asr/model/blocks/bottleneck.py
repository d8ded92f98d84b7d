"""A variational information bottleneck: the layers above hear a few noisy numbers per frame, and every nat has its price.

The posterior of a frame is a Gaussian q(z|x) with a diagonal covariance, the prior a standard one. In training z is drawn
(the noise follows from the update's seed, as dropout does), in use it is the posterior's mean. What the term `bottleneck` of
the loss adds is the divergence of q from the prior, an upper bound on what z tells of x.

Source: Kingma & Welling 2014, "Auto-Encoding Variational Bayes", section 2.4 and appendix B; Alemi et al. 2017, "Deep
Variational Information Bottleneck", equation 17.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from asr.model.blocks.block import BlockConfig, Stream
from asr.model.norm import Norm, make_norm, normalize

# Logarithm of the noise's variance at the start: little enough to learn to speak before the price rises.
_LOG_VARIANCE = -4.0


class BottleneckConfig(BlockConfig):
    """A narrow, noisy passage between two stacks of layers; nothing passes beside it."""

    size: int = Field(default=64, ge=1, description="numbers that pass, per frame")
    weight: float = Field(default=1e-3, gt=0, description="price of a nat that passes, beside a nat of the CTC loss")
    annealing_updates: int = Field(
        default=2000, ge=0, description="updates in which the price rises from 0 (Bowman et al. 2016)"
    )


class Bottleneck(nn.Module):
    """linear(z), z = mean + exp(log_variance / 2) * noise; mean and log_variance are linear in norm(x)."""

    def __init__(self, config: BottleneckConfig, size: int, *, norm: Norm) -> None:
        super().__init__()
        self.norm = make_norm(norm, size)
        self.posterior = nn.Linear(size, 2 * config.size)
        self.output = nn.Linear(config.size, size)
        nn.init.constant_(self.posterior.bias[config.size :], _LOG_VARIANCE)

    def extra_repr(self) -> str:
        """What it does, for people."""
        return f"gaussian {self.output.in_features}, linear"

    def forward(self, stream: Stream) -> Stream:
        """The stream with what passes in the place of its frames (S, B, D), and its divergence added."""
        posterior: Tensor = self.posterior(normalize(self.norm, stream.hidden, stream.mask))
        # In the precision of the weights: half of it would lose small divergences in the sum over frames.
        mean, log_variance = posterior.to(self.posterior.weight.dtype).chunk(2, dim=-1)
        latent = mean
        if self.training:
            latent = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        return stream._replace(
            hidden=self.output(latent),
            divergence=stream.divergence + divergence_from_prior(mean, log_variance, stream.mask),
        )


def divergence_from_prior(mean: Tensor, log_variance: Tensor, mask: Tensor) -> Tensor:
    """Divergence of Gaussians (S, B, K) from the standard one, in nats, summed over the valid frames of each utterance (B,).

    Example:
        >>> divergence_from_prior(torch.tensor([[[3.0]], [[9.0]]]), torch.zeros(2, 1, 1), torch.tensor([[True], [False]]))
        tensor([4.5000])
    """
    each = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)
    return each.masked_fill(~mask, 0.0).sum(0)
