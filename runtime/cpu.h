// What this CPU can do, and how many threads to use. Paths are chosen here, at run time, never by
// -march=native.
#pragma once

#include <string_view>

namespace sonde {

// Ordered: a later path includes the earlier ones.
enum class CpuPath { generic, avx2, avx512, avx512_bf16 };

CpuPath best_cpu_path();  // of this CPU; SONDE_CPU_PATH=avx2 in the environment lowers it
CpuPath parse_cpu_path(std::string_view name);
std::string_view name(CpuPath path);
int thread_count();  // threads OpenMP will use (OMP_NUM_THREADS, affinity respected)
void set_thread_count(int threads);

}  // namespace sonde
