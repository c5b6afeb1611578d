// libFuzzer: bytes as JSON, and what it says as config.json of a package.
#include "io/json.h"
#include "io/package.h"
#include "target.h"

using namespace longlive;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::refusedOr({ErrorCode::InvalidPackage}, [&] {
    const ModelConfig config = parseConfig(Json::parse({reinterpret_cast<const char*>(data), size}));
    for (const auto* row : {&config.vae.mean, &config.vae.std}) {
      for (float value : *row) fuzz::require(std::isfinite(value));
    }
    fuzz::require(config.video.width <= kMostSide && config.video.height <= kMostSide);
  });
  return 0;
}
