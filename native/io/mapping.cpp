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

constexpr size_t kAhead = 512u << 20;   // enough to keep a disk busy while a large matrix is packed
constexpr size_t kRequest = 256u << 10;  // the kernel cuts larger requests off
constexpr uintptr_t kPage = 4096;

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
  if (data_) ::munmap(const_cast<uint8_t*>(data_), size_);
}

void Mapping::willRead(std::span<const uint8_t> part) const {
  const size_t begin = static_cast<size_t>(part.data() - data_), end = std::min(size_, begin + part.size() + kAhead);
  const size_t from = std::max(requested_.load(std::memory_order_relaxed), begin / kPage * kPage);
  if (from >= end) return;
  requested_.store(end, std::memory_order_relaxed);
  for (size_t at = from / kPage * kPage; at < end; at += kRequest) {
    ::madvise(const_cast<uint8_t*>(data_ + at), std::min(kRequest, end - at), MADV_WILLNEED);
  }
}

void Mapping::release(std::span<const uint8_t> part) const {
  const uintptr_t base = reinterpret_cast<uintptr_t>(part.data()), first = (base + kPage - 1) / kPage * kPage;
  const uintptr_t last = (base + part.size()) / kPage * kPage;
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

}  // namespace longlive
