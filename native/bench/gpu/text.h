// The text encoder at full size.
#pragma once

#include "model/umt5.h"
#include "results.h"
#include "test/synthetic_package.h"

namespace longlive::bench {

// UMT5-XXL with weights of one type. All layers are the same bytes, and the vocabulary is short: neither changes a time.
class Text {
 public:
  Text(Backend& backend, bool eightBit, bool small) : b_(backend), type_(eightBit ? DType::I8 : DType::BF16) {
    config_.vocabSize = 512;
    if (small) config_.dim = 64, config_.dimAttn = 64, config_.dimFfn = 96, config_.numHeads = 2, config_.numLayers = 2;
    fill();
    const std::vector<uint8_t> file = this->file();
    encoder_ = std::make_unique<Umt5>(b_, config_, WeightReader(SafeTensors::parse(file, "random weights")));
    matrix_ = {};
  }

  void run(Results& results, bool small) {
    const std::string name = type_ == DType::I8 ? "text encoder, weights in 8 bits: " : "text encoder, weights in bf16: ";
    encoder_->reserve(512);
    results.value(name + "memory of its weights", static_cast<double>(encoder_->weightBytes()) / 1e6, "MB");
    for (int64_t tokens : small ? std::vector<int64_t>{5} : std::vector<int64_t>{40, 200, 512}) {
      const std::vector<int32_t> ids(static_cast<size_t>(tokens), 3);
      std::vector<double> times;
      for (int i = 0; i < (small ? 2 : 10); ++i) {
        const double start = now();
        encoder_->encode(ids, tokens);
        times.push_back(now() - start);
      }
      times.erase(times.begin());  // grows scratch, makes plans
      results.value(name + std::to_string(tokens) + " tokens p50", quantile(times, 0.5), "ms");
    }
  }

 private:
  float largest() const { return std::sqrt(3.0f / static_cast<float>(config_.dim)); }

  // The matrix that all are the beginning of.
  void fill() {
    const TextEncoderConfig& c = config_;
    matrix_.resize(static_cast<size_t>(std::max({c.dimFfn, c.dimAttn, c.vocabSize}) * std::max(c.dim, c.dimAttn)) * sizeOf(type_));
    SyntheticWeights random(7);
    for (size_t at = 0; at < matrix_.size(); at += sizeOf(type_)) {
      const float f = random.uniform();
      if (type_ == DType::I8) matrix_[at] = static_cast<uint8_t>(static_cast<int8_t>(f * 127.0f));
      else putBf16(&matrix_[at], f * largest());
    }
  }
  static void putBf16(uint8_t* to, float f) {
    const auto bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(f) >> 16);
    std::memcpy(to, &bits, sizeof bits);
  }

  std::vector<uint8_t> file() {
    const TextEncoderConfig& c = config_;
    const std::vector<float> ones(static_cast<size_t>(std::max(c.dim, c.numBuckets * c.numHeads)), 1.0f);
    const std::vector<float> scales(static_cast<size_t>(std::max({c.dimFfn, c.dimAttn, c.dim, c.vocabSize})), largest() / 127);
    std::vector<SafeTensors::Entry> entries;
    const auto plain = [&](const std::string& name, Shape shape, const std::vector<float>& values) {
      entries.push_back({name, {const_cast<float*>(values.data()), DType::F32, shape}});
    };
    const auto matrix = [&](const std::string& name, int64_t out, int64_t in) {
      entries.push_back({name + ".weight", {matrix_.data(), type_, {out, in}}});
      if (type_ == DType::I8) plain(name + ".weight_scale", {out}, scales);
    };
    matrix("token_embedding", c.vocabSize, c.dim);
    for (int64_t i = 0; i < c.numLayers; ++i) {
      const std::string block = "blocks." + std::to_string(i) + ".";
      plain(block + "norm1.weight", {c.dim}, ones), plain(block + "norm2.weight", {c.dim}, ones);
      for (const char* part : {"q", "k", "v"}) matrix(block + "attn." + part, c.dimAttn, c.dim);
      matrix(block + "attn.o", c.dim, c.dimAttn);
      matrix(block + "ffn.gate.0", c.dimFfn, c.dim), matrix(block + "ffn.fc1", c.dimFfn, c.dim), matrix(block + "ffn.fc2", c.dim, c.dimFfn);
      plain(block + "pos_embedding.embedding.weight", {c.numBuckets, c.numHeads}, ones);
    }
    plain("norm.weight", {c.dim}, ones);
    return writeSafeTensors(entries, {});
  }

  Backend& b_;
  DType type_;
  TextEncoderConfig config_;
  std::vector<uint8_t> matrix_;
  std::unique_ptr<Umt5> encoder_;
};

}  // namespace longlive::bench
