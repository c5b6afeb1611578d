// A file mapped read-only. Files of a package are replaced by renaming, never written in place: a mapped file that somebody
// cuts short would end the process.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>

namespace longlive {

class Mapping {
 public:
  // Throws Error{InvalidPackage} naming the file.
  explicit Mapping(const std::string& path);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::span<const uint8_t> bytes() const { return {data_, size_}; }
  // Somebody is about to read `part`, and then most likely on: asks the kernel for it and a stretch behind it.
  void willRead(std::span<const uint8_t> part) const;
  // `part` has been read: its pages stop counting as this process's memory. They stay in the page cache, and readable.
  void release(std::span<const uint8_t> part) const;

 private:
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  mutable std::atomic<size_t> requested_{0};  // the kernel was asked for everything before this
};

}  // namespace longlive
