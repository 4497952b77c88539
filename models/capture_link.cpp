#include "models/capture_link.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>
#include <utility>

#include "runtime/error.h"

namespace sonde {
namespace {

// Goes before the float32 values of one put().
struct Header {
  std::int32_t hook, layer, rank, unused;
  std::int64_t row0;
  std::array<std::int64_t, 4> shape;
};
static_assert(std::is_trivially_copyable_v<Header>);
constexpr std::size_t kAlign = alignof(Header);

std::size_t aligned(std::size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

}  // namespace

void CaptureSender::put(Site site, Tensor rows, std::int64_t row0) {
  sonde_check(rows.contiguous(), "captured rows of {} with gaps", rows.describe());
  Header header{static_cast<std::int32_t>(site.hook), site.layer, rows.rank, 0, row0, {}};
  for (int i = 0; i < rows.rank; ++i) header.shape[static_cast<std::size_t>(i)] = rows.dim(i);
  if (rows_.empty()) rows_.reserve(largest_);
  rows_.append(reinterpret_cast<const char*>(&header), sizeof header);
  rows_.append(reinterpret_cast<const char*>(rows.f32()),
               static_cast<std::size_t>(rows.count()) * sizeof(float));
  rows_.resize(aligned(rows_.size()));
}

void CaptureSender::end_batch() {
  largest_ = std::max(largest_, rows_.size());
  model_.send_bytes(std::exchange(rows_, {}), writer_, in_flight_);
}

std::int64_t rows_under_way(const StoreSchema& schema, const Stage& stage, std::int64_t batch_rows) {
  if (stage.last()) return 0;
  std::int64_t width = 0;
  for (const StoreSite& site : schema.sites)
    if (per_layer(site.site.hook) ? stage.has(site.site.layer)
                                  : stage.first() && site.site.hook < Hook::resid_pre)
      width += site.width();
  return (2 * stage.behind() + 2) * batch_rows * width * 4;
}

void receive_captures(Communicator& model, int from, CaptureSink& sink) {
  std::string bytes = model.receive_bytes(from);
  for (std::size_t at = 0; at < bytes.size();) {
    Header header{};
    sonde_check(bytes.size() - at >= sizeof header, "{} bytes of captured rows", bytes.size());
    std::memcpy(&header, bytes.data() + at, sizeof header);
    Tensor rows;
    rows.data = reinterpret_cast<std::byte*>(bytes.data() + at + sizeof header);
    rows.rank = header.rank;
    rows.shape = header.shape;
    rows.row_stride = rows.width();
    at = aligned(at + sizeof header + static_cast<std::size_t>(rows.count()) * sizeof(float));
    sonde_check(at <= bytes.size(), "{} of {} bytes of captured rows", at, bytes.size());
    sink.put({static_cast<Hook>(header.hook), header.layer}, rows, header.row0);
  }
}

}  // namespace sonde
