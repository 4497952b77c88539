#include "models/stage_link.h"

#include "runtime/error.h"
#include "runtime/profile.h"

namespace sonde {

StageLink::StageLink(const Model& model, Backend& backend)
    : stage_(model.stage), ranks_(model.stages), devices_(model.stage_devices), backend_(backend) {}

void StageLink::receive(Tensor x) {
  if (x.count() == 0) return;
  sonde_check(x.contiguous(), "a stream of {} with gaps", x.describe());
  if (devices_.before) return devices_.before->receive(x, 0);
  const bool direct = x.device == DeviceKind::cpu;
  if (const std::int64_t bytes = x.count() * 4; !direct && host_.bytes() < bytes) host_ = Buffer(bytes);
  const Tensor host = direct ? x : host_.tensor(DType::f32, {x.rows(), x.width()});
  ranks_->receive(std::span(host.f32(), static_cast<std::size_t>(x.count())), stage_.index - 1);
  if (!direct) backend_.scale(x, backend_.on_device(host, device_), 1);
}

void StageLink::send(Tensor x) {
  if (x.count() == 0) return;
  sonde_check(x.contiguous(), "a stream of {} with gaps", x.describe());
  if (devices_.next) {
    const PhaseScope scope(Phase::communication);
    return devices_.next->send(x, 1);
  }
  const Tensor host = backend_.on_host(x, host_);
  ranks_->send(std::span<const float>(host.f32(), static_cast<std::size_t>(x.count())), stage_.index + 1);
}

}  // namespace sonde
