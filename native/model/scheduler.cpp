#include "scheduler.h"

#include <cmath>
#include <string>

#include "longlive/error.h"

namespace longlive {

namespace {

constexpr int kTrainSteps = 1000;

// torch.linspace(1, 0, 1001): the second half counts from the end.
float ramp(int i) {
  const float step = -1.0f / kTrainSteps;
  return i < (kTrainSteps + 1) / 2 ? 1.0f + step * static_cast<float>(i) : 0.0f - step * static_cast<float>(kTrainSteps - i);
}

}  // namespace

Scheduler::Scheduler(float shift) {
  for (int i = 0; i < kTrainSteps; ++i) {
    const float s = ramp(i);
    sigmas_.push_back(shift * s / (1 + (shift - 1) * s));
    timesteps_.push_back(sigmas_.back() * kTrainSteps);
  }
}

std::vector<float> Scheduler::denoisingTimesteps(std::span<const int64_t> steps, bool warp) const {
  std::vector<float> out;
  for (int64_t step : steps) {
    if (step < 0 || step > kTrainSteps) {
      throw Error(ErrorCode::InvalidArgument, "denoising step " + std::to_string(step) + " is outside 0 .. 1000");
    }
    const size_t index = static_cast<size_t>(kTrainSteps - step);
    out.push_back(!warp ? static_cast<float>(step) : index < timesteps_.size() ? timesteps_[index] : 0.0f);
  }
  return out;
}

float Scheduler::sigmaAt(float timestep) const {
  size_t best = 0;
  for (size_t i = 1; i < timesteps_.size(); ++i) {
    if (std::fabs(timesteps_[i] - timestep) < std::fabs(timesteps_[best] - timestep)) best = i;
  }
  return sigmas_[best];
}

}  // namespace longlive
