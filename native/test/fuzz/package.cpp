// libFuzzer: a byte that says which, and the text of one file of a small package whose checksums are right: its manifest, its
// configuration, or the header of weights. Refused with InvalidPackage, or a model that encodes a text.
#include <cstring>

#include "small.h"
#include "target.h"

using namespace longlive;

namespace {

struct Small {
  test::SyntheticPackage package{"fuzz-package", fuzz::tiny};
  std::string changed;  // by the last input
  std::vector<uint8_t> sound;

  void change(const std::string& file, std::span<const uint8_t> text) {
    if (!changed.empty()) package.write(changed, sound);
    changed = file, sound = package.read(file);
    const bool weights = file.ends_with(".safetensors");
    package.write(file, weights ? withHeader(text) : std::vector<uint8_t>(text.begin(), text.end()));
    if (file != "manifest.json") package.writeManifest();
  }

  // The sound file's data under another header.
  std::vector<uint8_t> withHeader(std::span<const uint8_t> text) const {
    uint64_t size = 0;
    std::memcpy(&size, sound.data(), sizeof size);
    const auto data = std::span(sound).subspan(sizeof size + size);
    size = text.size();
    std::vector<uint8_t> bytes(sizeof size);
    std::memcpy(bytes.data(), &size, sizeof size);
    bytes.insert(bytes.end(), text.begin(), text.end());
    bytes.insert(bytes.end(), data.begin(), data.end());
    return bytes;
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Small small;
  if (size == 0) return 0;
  small.change(fuzz::kFiles[data[0] % fuzz::kFiles.size()], {data + 1, size - 1});
  fuzz::refusedOr({ErrorCode::InvalidPackage}, [&] { fuzz::load(small.package)->encodePrompt(fuzz::kText); });
  return 0;
}
