#include "graph.h"

#include "launch.h"

namespace longlive::cuda {

GraphRecording::~GraphRecording() {
  if (executable_) cudaGraphExecDestroy(executable_);
}

void GraphRecording::run(cudaStream_t stream, uint64_t version, const std::function<void()>& work) {
  if (!met_ || refused_) {
    met_ = true;
    return work();
  }
  if ((!executable_ || version != version_) && !capture(stream, work)) {
    refused_ = true;
    return work();
  }
  version_ = version;
  check(cudaGraphLaunch(executable_, stream), "graph");
}

bool GraphRecording::capture(cudaStream_t stream, const std::function<void()>& work) {
  const cudaError_t begun = cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
  if (isRefusal(static_cast<int>(begun))) return cudaGetLastError(), false;
  check(begun, "capture");
  cudaGraph_t graph = nullptr;
  try {
    work();
  } catch (...) {
    // What went wrong inside may be no more than something that cannot be captured; it will show again when it runs.
    if (cudaStreamEndCapture(stream, &graph) == cudaSuccess && graph) cudaGraphDestroy(graph);
    cudaGetLastError();
    return false;
  }
  if (cudaStreamEndCapture(stream, &graph) != cudaSuccess || !graph) {
    cudaGetLastError();
    return false;
  }
  const bool adopted = adopt(graph);
  cudaGraphDestroy(graph);
  return adopted;
}

bool GraphRecording::adopt(cudaGraph_t graph) {
  if (executable_) {
    cudaGraphExecUpdateResultInfo result{};
    if (cudaGraphExecUpdate(executable_, graph, &result) == cudaSuccess) return true;
    cudaGetLastError();  // another shape of graph: not sticky
    cudaGraphExecDestroy(executable_);
    executable_ = nullptr;
  }
  if (cudaGraphInstantiate(&executable_, graph, 0) == cudaSuccess) return true;
  cudaGetLastError();
  executable_ = nullptr;
  return false;
}

}  // namespace longlive::cuda
