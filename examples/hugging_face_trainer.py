"""SimCSE with transformers.Trainer: a sentence is its own positive, under another dropout.

    python examples/hugging_face_trainer.py

The BERT is small and has random weights, the sentences are of a made-up language: nothing is
downloaded. Needs `pip install transformers accelerate`. What changes in a model that you have:

    -loss = F.cross_entropy(cosines / 0.05, torch.arange(len(cosines)))
    +loss = info_nce_loss(z0, z1, temperature=0.05)
"""

from __future__ import annotations

import tempfile

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import BertConfig, BertModel, Trainer, TrainingArguments

from simclr_ext import info_nce_loss

CONFIG = BertConfig(
    vocab_size=1000,
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=128,
    max_position_embeddings=16,
)


class Sentences(Dataset[dict[str, Tensor]]):
    """Sentences of random words."""

    def __init__(self, count: int = 2048, words: int = 12) -> None:
        self.ids = torch.randint(CONFIG.vocab_size, (count, words))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.ids[index]}


class SimCSE(nn.Module):
    """A model whose output has the loss, as Trainer wants it."""

    def __init__(self) -> None:
        super().__init__()
        self.bert = BertModel(CONFIG, add_pooling_layer=False)

    def forward(self, input_ids: Tensor) -> dict[str, Tensor]:
        """Return the loss of sentences [N, words], each read twice."""
        z0 = self.bert(input_ids).last_hidden_state.mean(dim=1)
        z1 = self.bert(input_ids).last_hidden_state.mean(dim=1)
        loss = info_nce_loss(z0, z1, temperature=0.05)
        return {"loss": loss}


def main(steps: int = 100) -> SimCSE:
    """Train for a number of steps; return the model."""
    torch.manual_seed(0)
    model = SimCSE()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=steps,
            per_device_train_batch_size=64,
            learning_rate=1e-3,
            logging_steps=10,
            save_strategy="no",
            report_to="none",
        )
        Trainer(model, arguments, train_dataset=Sentences()).train()
    return model


if __name__ == "__main__":
    main()
