// Writes the seeds of libFuzzer's targets: make_corpus DIRECTORY, with a folder for each.
#include <filesystem>

#include "longlive/engine.h"
#include "synthetic_package.h"

using namespace longlive;

namespace {

void write(const std::string& path, const std::vector<uint8_t>& bytes) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), static_cast<int64_t>(bytes.size()));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const std::string to = argv[1];
  std::vector<float> values(16, 1.5f);
  const std::vector<SafeTensors::Entry> entries = {{"a", {values.data(), DType::F32, {2, 4}}}, {"b", {values.data(), DType::BF16, {3}}}};
  write(to + "/safetensors/two", writeSafeTensors(entries, {{"format", "pt"}}));
  write(to + "/safetensors/none", writeSafeTensors({}, {}));
  // As test/fuzz/checkpoint.cpp has it.
  const test::SyntheticPackage package("corpus", [](ModelConfig& c) {
    c.dit.numLayers = 1, c.dit.ropeTableLength = 16;
    c.sampling.windowFrames = 4, c.sampling.denoisingSteps = {1000};
  });
  const std::string config = package.configText();
  write(to + "/json/config", {config.begin(), config.end()});
  LoadOptions load;
  load.directory = package.directory, load.precision = Precision::FP32, load.threads = 1;
  const auto model = Model::load(load);
  SessionOptions options;
  options.seed = 1, options.width = options.height = 16;
  const auto session = model->createSession(options);
  session->setPrompt(*model->encodePrompt(std::vector<int32_t>{3, 1}), RecacheMode::Recache);
  for (int block = 0; block <= 6; ++block) {
    if (block % 3 == 0) write(to + "/checkpoint/after-" + std::to_string(block), session->checkpoint());
    while (session->step().kind != Step::Kind::Context) {
    }
  }
}
