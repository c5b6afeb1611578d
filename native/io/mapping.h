// A file mapped read-only. Files of a package are replaced by renaming, never written in place: a mapped file that somebody
// cuts short would end the process.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <thread>

namespace longlive {

class Mapping {
 public:
  // Throws Error{InvalidPackage} naming the file.
  explicit Mapping(const std::string& path);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::span<const uint8_t> bytes() const { return {data_, size_}; }
  // Somebody is about to read `part`, and then most likely on: a thread brings it and a stretch behind it into memory, so that
  // reading and what is done with the bytes overlap.
  void willRead(std::span<const uint8_t> part) const;
  // `part` has been read: its pages stop counting as this process's memory. They stay in the page cache, and readable.
  void release(std::span<const uint8_t> part) const;

 private:
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;

  void readAhead() const;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  mutable size_t from_ = 0, until_ = 0;  // what is to be brought into memory
  mutable bool over_ = false;
  mutable std::thread reader_;  // begins with the first part that is asked for
};

}  // namespace longlive
