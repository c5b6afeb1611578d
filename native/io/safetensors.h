// Reader and writer of safetensors files: u64 header length, JSON header, raw little-endian data.
// The reader trusts nothing: every length, offset, shape and name is checked before a byte of data is touched.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "mapping.h"
#include "tensor.h"

namespace longlive {

class SafeTensors {
 public:
  struct Entry {
    std::string name;
    Tensor tensor;  // a view of the file's bytes, read-only, not necessarily aligned
  };

  SafeTensors() = default;
  // Maps a file. Throws Error{InvalidPackage} that names the file, and the tensor if it concerns one.
  static SafeTensors open(const std::string& path);
  // The same over bytes that the caller keeps alive; `label` stands for the file in messages.
  static SafeTensors parse(std::span<const uint8_t> bytes, const std::string& label);

  const std::string& label() const { return label_; }
  const std::vector<Entry>& entries() const { return entries_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const Tensor* find(std::string_view name) const;  // null if absent
  const Tensor& at(std::string_view name) const;    // throws Error{InvalidPackage} if absent
  // Advice about one of the entries: it is about to be read, or was read for the last time. Mapping, if the file is mapped.
  void willRead(const Tensor& t) const;
  void release(const Tensor& t) const;

 private:
  void readHeader(std::span<const uint8_t> bytes);

  std::string label_;
  std::shared_ptr<const Mapping> mapping_;
  std::vector<Entry> entries_;
  std::unordered_map<std::string, size_t> index_;
  std::map<std::string, std::string> metadata_;
};

// Values of a floating-point tensor (F32, F16, BF16, F64) as F32. Throws Error{InvalidPackage} for another dtype.
void toFloat(const Tensor& in, float* out, const std::string& name);

// Serialises tensors that live in host memory. The data begins at a multiple of 64 bytes.
std::vector<uint8_t> writeSafeTensors(std::span<const SafeTensors::Entry> entries,
                                      const std::map<std::string, std::string>& metadata);

}  // namespace longlive
