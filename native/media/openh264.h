// H.264 by OpenH264, where this machine has the library: opened by name at run time, so that the core is built and runs without it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace longlive {

struct PictureFormat {
  int width = 0, height = 0;
  double fps = 0;
  int quantizer = 0;  // 0 to 51, the same for every macroblock
};

struct EncodedPictures {
  struct Sample {
    std::vector<uint8_t> bytes;  // NAL units, each behind its length in four bytes
    bool key;
  };
  std::vector<uint8_t> sps, pps;  // NAL units without start code or length
  std::vector<Sample> samples;
};

class OpenH264 {
 public:
  // Throws Unavailable, with what to install, where there is none.
  static std::shared_ptr<const OpenH264> open();
  ~OpenH264();

  const std::string& version() const { return version_; }
  // Planar I420 pictures, one after the other, by an encoder of their own: the first is an IDR picture, the others are predicted
  // from those before. The same pictures give the same bytes. Any number of threads may call it at once.
  // A picture that takes two thirds of what it takes unencoded, as noise does, does not fit the library's buffers: coarser then.
  EncodedPictures encode(PictureFormat format, std::span<const uint8_t> frames) const;

 private:
  struct Functions;
  OpenH264();
  std::optional<EncodedPictures> tryEncode(const PictureFormat& format, std::span<const uint8_t> frames) const;

  std::unique_ptr<Functions> f_;
  std::string version_;
};

}  // namespace longlive
