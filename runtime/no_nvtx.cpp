#include "runtime/trace_range.h"

namespace sonde {

bool TraceRange::listens() { return false; }
void TraceRange::begin(Site) {}
void TraceRange::end() {}

}  // namespace sonde
