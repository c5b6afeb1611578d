// libFuzzer: bytes as a safetensors file. Refused with InvalidPackage, or read to its last byte.
#include "io/safetensors.h"
#include "target.h"

using namespace longlive;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::refusedOr({ErrorCode::InvalidPackage}, [&] {
    const SafeTensors file = SafeTensors::parse({data, size}, "file");
    uint64_t sum = 0;
    for (const auto& e : file.entries()) {
      for (size_t i = 0; i < e.tensor.bytes(); ++i) sum += static_cast<const uint8_t*>(e.tensor.data)[i];
    }
    fuzz::use(sum);
  });
  return 0;
}
