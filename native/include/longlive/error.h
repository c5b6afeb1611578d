// The one exception type that crosses from the core to its users: a stable code, and a sentence that says what to do.
#pragma once

#include <stdexcept>
#include <string>

namespace longlive {

enum class ErrorCode {
  InvalidArgument,   // the caller's request makes no sense
  InvalidPackage,    // a file of the model package is malformed, truncated, hostile or does not match its config
  Unavailable,       // no such device in this build or on this machine
  OutOfMemory,       // the device cannot hold what was asked for
  DeviceFault,       // the device itself reports that it failed; everything on it is lost, and it must be considered unhealthy
  Internal,          // the core met what it did not foresee; the session of the call is lost, the device is well
  Cancelled,
};

constexpr const char* nameOf(ErrorCode c) {
  switch (c) {
    case ErrorCode::InvalidArgument: return "INVALID_ARGUMENT";
    case ErrorCode::InvalidPackage: return "INVALID_PACKAGE";
    case ErrorCode::Unavailable: return "UNAVAILABLE";
    case ErrorCode::OutOfMemory: return "OUT_OF_MEMORY";
    case ErrorCode::DeviceFault: return "DEVICE_FAULT";
    case ErrorCode::Internal: return "INTERNAL";
    case ErrorCode::Cancelled: return "CANCELLED";
  }
  return "UNKNOWN";
}

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace longlive
