#include "mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "longlive/error.h"

namespace longlive {

namespace {

constexpr size_t kAhead = 192u << 20;  // enough to keep a disk busy while a large matrix is packed; counts as this process's memory
constexpr size_t kRequest = 4u << 20;
constexpr uintptr_t kPage = 4096;

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

}  // namespace

Mapping::Mapping(const std::string& path) {
  const auto fail = [&](const std::string& why) -> Error { return {ErrorCode::InvalidPackage, path + ": " + why}; };
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw fail(std::strerror(errno));
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    throw fail("not a regular file");
  }
  size_ = static_cast<size_t>(info.st_size);
  void* data = size_ ? ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0) : nullptr;
  const int error = errno;
  ::close(fd);
  if (data == MAP_FAILED) throw fail(std::strerror(error));
  data_ = static_cast<const uint8_t*>(data);
}

Mapping::~Mapping() {
  if (reader_.joinable()) {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    changed_.notify_one();
    reader_.join();
  }
  if (data_) ::munmap(const_cast<uint8_t*>(data_), size_);
}

void Mapping::willRead(std::span<const uint8_t> part) const {
  const size_t begin = static_cast<size_t>(part.data() - data_) / kPage * kPage;
  const size_t end = std::min(size_, static_cast<size_t>(part.data() - data_) + part.size() + kAhead);
  {
    const std::lock_guard lock(mutex_);
    if (end <= until_) return;
    from_ = std::max(from_, begin);
    until_ = end;
    if (!reader_.joinable()) reader_ = std::thread([this] { readAhead(); });
  }
  changed_.notify_one();
}

void Mapping::readAhead() const {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return over_ || from_ < until_; });
    if (over_) return;
    const size_t at = from_, size = std::min(kRequest, until_ - at);
    from_ = (at + size + kPage - 1) / kPage * kPage;
    lock.unlock();
    uint8_t* data = const_cast<uint8_t*>(data_ + at);
    if (::madvise(data, size, MADV_POPULATE_READ) != 0) ::madvise(data, size, MADV_WILLNEED);  // kernels before 5.14
    lock.lock();
  }
}

void Mapping::release(std::span<const uint8_t> part) const {
  const uintptr_t base = reinterpret_cast<uintptr_t>(part.data()), first = (base + kPage - 1) / kPage * kPage;
  const uintptr_t last = (base + part.size()) / kPage * kPage;
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

}  // namespace longlive
