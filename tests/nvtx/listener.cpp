// Stands in for a profiler: NVTX loads it by NVTX_INJECTION64_PATH, and it writes each range's name as it
// opens, and "end" as it closes, to the file SONDE_NVTX_RANGES.
#include <nvtx3/nvToolsExt.h>

#include <cstdio>
#include <cstdlib>

namespace {

FILE* out() {
  static FILE* file = std::fopen(std::getenv("SONDE_NVTX_RANGES"), "w");
  return file;
}

nvtxDomainHandle_t create(const char*) {
  static int domain;
  return reinterpret_cast<nvtxDomainHandle_t>(&domain);
}
int push(nvtxDomainHandle_t, const nvtxEventAttributes_t* event) {
  std::fprintf(out(), "%s\n", event->message.ascii);
  return 0;
}
int pop(nvtxDomainHandle_t) {
  std::fprintf(out(), "end\n");
  std::fflush(out());
  return 0;
}

}  // namespace

extern "C" int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get) {
  const auto* callbacks = static_cast<const NvtxExportTableCallbacks*>(get(NVTX_ETID_CALLBACKS));
  NvtxFunctionTable table = nullptr;
  unsigned int size = 0;
  if (!callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &table, &size)) return 0;
  *table[NVTX_CBID_CORE2_DomainCreateA] = reinterpret_cast<NvtxFunctionPointer>(&create);
  *table[NVTX_CBID_CORE2_DomainRangePushEx] = reinterpret_cast<NvtxFunctionPointer>(&push);
  *table[NVTX_CBID_CORE2_DomainRangePop] = reinterpret_cast<NvtxFunctionPointer>(&pop);
  return 1;
}
