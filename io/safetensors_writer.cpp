#include "io/safetensors_writer.h"

#include <utility>

#include "io/file_util.h"
#include "io/json.h"
#include "runtime/error.h"

namespace sonde {
namespace {

constexpr std::pair<DType, const char*> kNames[] = {
    {DType::f64, "F64"},     {DType::f32, "F32"}, {DType::f16, "F16"}, {DType::bf16, "BF16"},
    {DType::i64, "I64"},     {DType::u64, "U64"}, {DType::i32, "I32"}, {DType::u32, "U32"},
    {DType::i16, "I16"},     {DType::u16, "U16"}, {DType::i8, "I8"},   {DType::u8, "U8"},
    {DType::boolean, "BOOL"}};

const char* safetensors_name(DType dtype) {
  for (const auto& [known, text] : kNames)
    if (known == dtype) return text;
  fail("safetensors has no dtype {}", name(dtype));
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, const std::vector<NamedTensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::string data;
  for (const NamedTensor& tensor : tensors) {
    sonde_check(tensor.view.contiguous(), "tensor {} is strided", tensor.name);
    sonde_check(!header.contains(tensor.name), "tensor {} twice", tensor.name);
    const auto bytes = static_cast<std::size_t>(bytes_of(tensor.view.dtype, tensor.view.count()));
    Json shape = Json::array();
    for (int i = 0; i < tensor.view.rank; ++i) shape.push_back(tensor.view.dim(i));
    header[tensor.name] = {{"dtype", safetensors_name(tensor.view.dtype)},
                           {"shape", shape},
                           {"data_offsets", {data.size(), data.size() + bytes}}};
    data.append(reinterpret_cast<const char*>(tensor.view.data), bytes);
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  std::string file;
  for (int i = 0; i < 8; ++i) file.push_back(static_cast<char>(text.size() >> (8 * i)));
  write_file_atomically(path, file + text + data);
}

}  // namespace sonde
