// Writes the seeds of libFuzzer's targets: make_corpus DIRECTORY, with a folder for each.
#include <cstring>
#include <filesystem>

#include "fuzz/small.h"

using namespace longlive;

namespace {

void write(const std::string& path, const std::vector<uint8_t>& bytes) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), static_cast<int64_t>(bytes.size()));
}

void writeSafetensors(const std::string& to) {
  std::vector<float> values(16, 1.5f);
  const std::vector<SafeTensors::Entry> entries = {{"a", {values.data(), DType::F32, {2, 4}}}, {"b", {values.data(), DType::BF16, {3}}}};
  write(to + "/two", writeSafeTensors(entries, {{"format", "pt"}}));
  write(to + "/none", writeSafeTensors({}, {}));
}

// The text of each file, behind the byte that says which.
void writePackage(const std::string& to, const test::SyntheticPackage& package) {
  fuzz::load(package);  // or throws: a seed that is refused leads nowhere
  for (size_t i = 0; i < fuzz::kFiles.size(); ++i) {
    std::vector<uint8_t> bytes = package.read(fuzz::kFiles[i]);
    if (fuzz::kFiles[i].ends_with(".safetensors")) {
      uint64_t size = 0;
      std::memcpy(&size, bytes.data(), sizeof size);
      bytes = {bytes.begin() + sizeof size, bytes.begin() + sizeof size + static_cast<int64_t>(size)};
    }
    bytes.insert(bytes.begin(), static_cast<uint8_t>(i));
    write(to + "/" + fuzz::kFiles[i], bytes);
  }
}

void writeCheckpoints(const std::string& to, const test::SyntheticPackage& package) {
  const auto model = fuzz::load(package);
  const auto session = model->createSession(fuzz::session());
  session->setPrompt(*model->encodePrompt(fuzz::kText), RecacheMode::Recache);
  for (int block = 0; block <= 6; ++block) {
    if (block % 3 == 0) write(to + "/after-" + std::to_string(block), session->checkpoint());
    fuzz::block(*session);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const std::string to = argv[1];
  const test::SyntheticPackage package("corpus", fuzz::small);
  const std::string config = package.configText();
  writeSafetensors(to + "/safetensors");
  write(to + "/json/config", {config.begin(), config.end()});
  writePackage(to + "/package", test::SyntheticPackage("corpus-tiny", fuzz::tiny));
  writeCheckpoints(to + "/checkpoint", package);
}
