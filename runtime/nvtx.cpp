#include <nvtx3/nvToolsExt.h>

#include "runtime/trace_range.h"

namespace sonde {
namespace {

nvtxDomainHandle_t domain() {  // null where no tool was injected into this process
  static const nvtxDomainHandle_t handle = nvtxDomainCreateA("sonde");
  return handle;
}

}  // namespace

bool TraceRange::listens() { return domain() != nullptr; }

void TraceRange::begin(Site site) {
  const std::string text = name(site);
  nvtxEventAttributes_t event{};
  event.version = NVTX_VERSION;
  event.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
  event.messageType = NVTX_MESSAGE_TYPE_ASCII;
  event.message.ascii = text.c_str();
  nvtxDomainRangePushEx(domain(), &event);
}

void TraceRange::end() { nvtxDomainRangePop(domain()); }

}  // namespace sonde
