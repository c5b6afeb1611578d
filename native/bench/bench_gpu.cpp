// The benchmarks of the full-size model (1.3B shapes, 832 x 480, 4 steps, window 12, sink 3) with random weights, whose
// values do not change the speed. Written against Backend alone, so that the same program measures every backend and is
// tested without a device.
//
//   bench_gpu [--device cuda|cpu] [--precision fp32|bf16|int8|fp8] [--attention full|int8] [--relative] [--isa NAME] [--only PART]
//             [--blocks N] [--small] [--json FILE]
//
// PART: ceilings, check (the fast linear layers, attention and convolutions against the plain ones, at the sizes that are measured, and
// whole blocks with graphs and lanes against single launches; ends in failure where the former differ by more than rounding explains, or
// the latter in a bit), kernels, tiny (blocks with the tiny decoder), full (blocks with the Wan VAE), text (prompts through UMT5-XXL),
// quality (latents against bf16 on the same noise, where there is a difference, with even random weights and with the outliers of trained
// ones, test/outliers.h); or, of check and kernels, the convolutions alone:
// check-conv, conv. --relative takes positions by slot instead of absolute ones, --small toy sizes, to see that everything runs. Times
// are taken on the host around work that ends in synchronize(): single kernels by many launches back to back, blocks one by one.
#include "gpu/blocks.h"
#include "gpu/kernels.h"
#include "gpu/text.h"

using namespace longlive;
using namespace longlive::bench;

namespace {

std::unique_ptr<Backend> open(const Options& o) { return o.device == "cuda" ? makeCudaBackend(o.backend) : makeCpuBackend(o.backend); }

bool parse(int argc, char** argv, Options& o) {
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--small" || arg == "--relative") {
      (arg == "--small" ? o.small : o.relative) = true;
      continue;
    }
    if (i + 1 == argc) return false;
    const std::string value = argv[++i];
    if (arg == "--device") o.device = value;
    else if (arg == "--isa") o.backend.isa = value;
    else if (arg == "--only") o.only = value;
    else if (arg == "--json") o.json = value;
    else if (arg == "--blocks") o.blocks = std::max(1, std::atoi(value.c_str()));
    else if (arg == "--precision" && precisionNamed(value)) o.backend.precision = *precisionNamed(value);
    else if (arg == "--attention" && attentionNamed(value)) o.backend.attention = *attentionNamed(value);
    else return false;
  }
  return o.device == "cuda" || o.device == "cpu";
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // what was measured stays visible if a time limit ends the run
  Options o;
  o.backend.precision = Precision::BF16;
  if (!parse(argc, argv, o)) {
    std::fprintf(stderr, "usage: bench_gpu [--device cuda|cpu] [--precision fp32|bf16|int8|fp8] [--attention full|int8] [--relative] [--isa NAME]\n"
                         "                 [--only ceilings|check|check-conv|kernels|conv|tiny|full|text|quality] [--blocks N] [--small] [--json FILE]\n");
    return 2;
  }
  try {
    const auto backend = open(o);
    const DeviceInfo device = backend->info();
    std::printf("%s, %s\n", device.name.c_str(), device.isa.c_str());
    Results results(o, device);
    const auto wanted = [&](const char* part) { return o.only.empty() || o.only == part; };
    Kernels kernels(*backend, results, o.small);
    if (wanted("ceilings")) kernels.ceilings();
    if (wanted("kernels")) kernels.model();
    if (wanted("kernels") || o.only == "conv") kernels.pictures(), kernels.decoder();
    bool same = true;
    if (wanted("check") || o.only == "check-conv") {
      Options plain = o;
      plain.backend.precision = withoutEightBit(o.backend.precision), plain.backend.attention = AttentionArithmetic::Full;
      plain.backend.isa = o.device == "cuda" ? "plain,eager,one-lane" : "portable";
      const bool eightBit = isEightBit(o.backend.precision) || o.backend.attention != AttentionArithmetic::Full;
      const auto reference = open(plain);
      same = kernels.checkConvolutions(*reference);
      if (wanted("check")) same = kernels.check(*reference, eightBit) && same;
      Options singly = o;
      if (o.device == "cuda") singly.backend.isa += std::string(o.backend.isa.empty() ? "" : ",") + "eager,one-lane";
      if (wanted("check")) same = checkReplayed(results, *backend, o, *open(singly)) && same;
    }
    results.write();
    if (wanted("tiny") || wanted("full")) {
      Model model(*backend, o);
      if (wanted("tiny")) model.run(results, false, o.blocks);
      if (wanted("full")) model.run(results, true, o.blocks);
    }
    if (wanted("text")) {
      for (bool eightBit : {true, false}) Text(*backend, eightBit, o.small).run(results, o.small);
    }
    if (wanted("quality") && (o.backend.precision != Precision::BF16 || o.backend.attention != AttentionArithmetic::Full)) {
      Options bf16 = o;
      bf16.backend.precision = Precision::BF16, bf16.backend.attention = AttentionArithmetic::Full;
      for (bool outliers : {false, true}) {
        const std::vector<float> got = Model(*backend, o, outliers).latents();
        compareQuality(results, outliers ? "with outliers: " : "", got, Model(*open(bf16), bf16, outliers).latents());
      }
    }
    return same ? 0 : 1;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_gpu: %s\n", e.what());
    return 1;
  }
}
