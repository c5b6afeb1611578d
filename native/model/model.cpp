// A loaded model package: its networks on one device.

#include "blend.h"
#include "devices.h"
#include "session.h"

namespace longlive {

Model::Model(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Model::~Model() = default;

std::shared_ptr<Model> Model::load(const LoadOptions& options) {
  const Package package = Package::open(options.directory);
  requireDecoder(options, package);
  auto backend = makeBackend(options);
  requireRoom(package, options, *backend);
  // Every byte is checked where it is used, so nothing has to wait for the checksums.
  Checksums checksums(package);
  try {
    auto parts = std::make_unique<Impl>(package, options, std::move(backend));
    checksums.wait();
    return std::shared_ptr<Model>(new Model(std::move(parts)));
  } catch (const Error& e) {
    if (e.code() == ErrorCode::InvalidPackage) checksums.wait();  // a damaged file is called one, whatever else it is
    throw;
  }
}

Model::Impl::Impl(const Package& package, const LoadOptions& options, std::unique_ptr<Backend> device)
    : configText(package.configText()), config(package.config()), backend(std::move(device)) {
  loadText(package);
  const SafeTensors video = SafeTensors::open(package.path("dit.safetensors"));
  dit = std::make_unique<Dit>(*backend, config.dit, WeightReader(video), options.kv);
  const SafeTensors pixels = SafeTensors::open(package.path(options.tinyDecoder ? "tiny_vae.safetensors" : "vae.safetensors"));
  decoder = options.tinyDecoder ? loadTinyVae(*backend, *config.tinyVae, pixels) : loadWanVae(*backend, config.vae, pixels);
  plan = std::make_unique<SamplerPlan>(*dit, config.sampling);
}

// In its lane, whose scratch grows with it.
void Model::Impl::loadText(const Package& package) {
  const LaneScope lane(*backend, Lane::Text);
  const SafeTensors text = SafeTensors::open(package.path("text_encoder.safetensors"));
  textEncoder = std::make_unique<Umt5>(*backend, config.textEncoder, WeightReader(text));
  textEncoder->reserve(config.dit.textLen);
}

const std::string& Model::configJson() const { return impl_->configText; }

size_t Model::weightBytes() const {
  return impl_->textEncoder->weightBytes() + impl_->dit->weightBytes() + impl_->decoder->weightBytes();
}

int64_t Model::refusedRecordings() const { return impl_->backend->refusedRecordings(); }

int64_t Model::maxPromptTokens() const { return impl_->config.dit.textLen; }

std::shared_ptr<const Prompt> Model::encodePrompt(std::span<const int32_t> ids) const {
  const int64_t textLen = impl_->config.dit.textLen, n = static_cast<int64_t>(ids.size());
  if (n > textLen) {
    throw Error(ErrorCode::InvalidArgument, "a prompt may have " + std::to_string(textLen) + " tokens, got " + std::to_string(n));
  }
  const auto claim = impl_->claimText();
  const LaneScope lane(*impl_->backend, Lane::Text);  // denoising that is under way goes on
  auto prompt = std::make_shared<Prompt>();
  prompt->tokens = n;
  prompt->embeddings = impl_->textEncoder->encode(ids, n);
  if (n < textLen) prompt->embeddings.resize(static_cast<size_t>((n + 1) * impl_->config.dit.textDim), 0.0f);
  return prompt;
}

void Model::Impl::requireOwn(const Prompt& prompt) const {
  const int64_t most = config.dit.textLen, rows = std::min(prompt.tokens + 1, most);
  const bool own = prompt.tokens >= 1 && prompt.tokens <= most && static_cast<int64_t>(prompt.embeddings.size()) == rows * config.dit.textDim;
  if (!own) throw Error(ErrorCode::InvalidArgument, "the prompt was encoded by another model: encode it with the session's own");
}

std::shared_ptr<const Prompt> Model::blendPrompts(const Prompt& from, const Prompt& to, double share, BlendKind kind) const {
  impl_->requireOwn(from);
  impl_->requireOwn(to);
  if (!(share >= 0 && share <= 1)) throw Error(ErrorCode::InvalidArgument, "a share must be between 0 and 1, got " + std::to_string(share));
  if (areSame(from, to)) return std::make_shared<Prompt>(from);
  const DitConfig& dit = impl_->config.dit;
  return std::make_shared<Prompt>(blend(from, to, share, kind, dit.textLen, dit.textDim));
}

std::unique_ptr<Session> Model::createSession(const SessionOptions& options) {
  const auto claim = impl_->claim();
  return std::unique_ptr<Session>(new Session(std::make_unique<Session::Impl>(shared_from_this(), *impl_, options)));
}

std::unique_ptr<Session> Model::restoreSession(const SessionOptions& options, std::span<const uint8_t> checkpoint,
                                               const Prompt& prompt) {
  const auto claim = impl_->claim();
  auto session = createSession(options);
  session->impl_->restore(checkpoint, prompt);
  return session;
}

}  // namespace longlive
