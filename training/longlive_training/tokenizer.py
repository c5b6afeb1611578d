"""The tokenizer of a package: a Unigram model with byte fallback in the Hugging Face `tokenizers` format.

    python -m longlive_training.tokenizer --out RUN/tokenizer.json [--vectors FILE]

Ids: <pad> 0, </s> 1, <unk> 2, then the 256 bytes, then the learned pieces. Capitals are read as small letters. Any text can be
encoded; what the pieces do not cover becomes UTF-8 bytes. `</s>` ends every text.
"""

from __future__ import annotations

import argparse
import html
import io
import json
import pydoc_data.topics
import re
from pathlib import Path

import numpy as np
import torch
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor

PAD, EOS, UNK = 0, 1, 2
RESERVED = ["<pad>", "</s>", "<unk>"] + [f"<0x{byte:02X}>" for byte in range(256)]
RESERVED_SCORE = -100.0  # so low that a text which spells out "<pad>" is cut into ordinary pieces


def clean(text: str) -> str:
    """The reference's text cleaning without ftfy: HTML entities (twice), then every run of white space is one space."""
    return re.sub(r"\s+", " ", html.unescape(html.unescape(text))).strip()


def english() -> list[str]:
    """General English prose that comes with Python, so that ordinary words outside the captions cost few tokens."""
    text = " ".join(pydoc_data.topics.topics.values())
    return re.findall(r"[A-Z][a-z][a-z ,'-]{20,}\.", " ".join(text.split()))


def train(captions: list[str], vocab_size: int) -> Tokenizer:
    """The same pieces for the same captions, always: sentencepiece's trainer, since that of `tokenizers` depends on the order of hashes."""
    model, lowercase = io.BytesIO(), normalizers.Lowercase()
    printable = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    SentencePieceTrainer.train(
        sentence_iterator=map(lowercase.normalize_str, captions + english()), model_writer=model, vocab_size=vocab_size - len(RESERVED) + 1, model_type="unigram",
        hard_vocab_limit=False, normalization_rule_name="identity", character_coverage=1.0, required_chars="".join(printable),
        unk_id=0, bos_id=-1, eos_id=-1, pad_id=-1, num_threads=1, minloglevel=1,
    )  # fmt: skip
    learned = SentencePieceProcessor(model_proto=model.getvalue())
    vocab = [(piece, RESERVED_SCORE) for piece in RESERVED]
    vocab += [(learned.id_to_piece(i), learned.get_score(i)) for i in range(1, len(learned))]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=UNK, byte_fallback=True))
    tokenizer.normalizer = lowercase
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="always")])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", EOS)])
    return tokenizer


def encode(tokenizer: Tokenizer, texts: list[str], length: int) -> tuple[Tensor, Tensor]:
    """Ids and mask, int64 [len(texts), length]; longer texts are cut so that `</s>` still ends them."""
    ids = torch.full((len(texts), length), PAD)
    mask = torch.zeros_like(ids)
    for row, text in enumerate(texts):
        tokens = tokenizer.encode(clean(text)).ids
        tokens = tokens[: length - 1] + [EOS] if len(tokens) > length else tokens
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    return ids, mask


VECTORS = [
    "a red fox runs through the snow at night",
    "A blue robot walks on a sandy beach, at sunset.",
    "  two   spaces\tand\na newline  ",
    "",
    " ",
    "UPPER lower MiXeD 12345 67,890.5%",
    "\u0130STANBUL \u03a3\u0391\u03a3 \u1e9e \u01c5",
    "na\u00efve caf\u00e9 \u00fcber stra\u00dfe",
    "\u4e00\u53ea\u7ea2\u8272\u7684\u72d0\u72f8",
    "\u8d64\u3044\u30ad\u30c4\u30cd\u304c\u8d70\u308b",
    "\u0441\u0438\u043d\u0438\u0439 \u0440\u043e\u0431\u043e\u0442",
    "\U0001f98a\u2764\ufe0f\U0001f916 \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "<pad></s><unk><0x41>",
    "fish &amp; chips &amp;amp; salt &lt;3",
    "\u2581metaspace \u2581 inside",
    "e\u0301 combining and \u00a0 no-break space",
    "x" * 40,
    "the quick brown fox jumps over the lazy dog; isn't it (really) \"quick\"?",
    "\u0627\u0644\u062b\u0639\u0644\u0628 \u0627\u0644\u0623\u062d\u0645\u0631",
]


def vectors(tokenizer: Tokenizer) -> list[dict]:
    """Texts with their ids (cleaned, `</s>` included, neither cut nor padded) for other implementations to check."""
    return [{"text": text, "ids": tokenizer.encode(clean(text)).ids} for text in VECTORS]


def main() -> None:
    from .captions import caption
    from .world import sample_attributes

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vectors", type=Path, help="also write texts and their ids here")
    parser.add_argument("--vocab-size", type=int, default=1024)
    parser.add_argument("--captions", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    corpus = [caption(sample_attributes(rng), rng, full=bool(i % 2)) for i in range(args.captions)]
    tokenizer = train(corpus, args.vocab_size)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(args.out))
    if args.vectors:
        args.vectors.parent.mkdir(parents=True, exist_ok=True)
        args.vectors.write_text(json.dumps(vectors(tokenizer), indent=1) + "\n")
    lengths = [len(tokenizer.encode(text).ids) for text in corpus[:2000]]
    print(f"{tokenizer.get_vocab_size()} pieces; captions have {np.mean(lengths):.1f} tokens on average, {max(lengths)} at most")


if __name__ == "__main__":
    main()
