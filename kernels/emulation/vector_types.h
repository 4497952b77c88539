// CUDA's vector types for builds without its headers: same names, sizes and alignments.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sonde::emulated {

using uint = unsigned int;
using uchar = unsigned char;
using ushort = unsigned short;

#define SONDE_VECTOR_TYPES(name, scalar)                                            \
  struct alignas(2 * sizeof(scalar)) name##2 {                                      \
    scalar x, y;                                                                    \
  };                                                                                \
  struct name##3 {                                                                  \
    scalar x, y, z;                                                                 \
  };                                                                                \
  struct alignas(sizeof(scalar) == 8 ? 16 : 4 * sizeof(scalar)) name##4 {           \
    scalar x, y, z, w;                                                              \
  };                                                                                \
  inline name##2 make_##name##2(scalar x, scalar y) { return {x, y}; }              \
  inline name##3 make_##name##3(scalar x, scalar y, scalar z) { return {x, y, z}; } \
  inline name##4 make_##name##4(scalar x, scalar y, scalar z, scalar w) { return {x, y, z, w}; }

SONDE_VECTOR_TYPES(char, signed char)
SONDE_VECTOR_TYPES(uchar, unsigned char)
SONDE_VECTOR_TYPES(short, short)
SONDE_VECTOR_TYPES(ushort, unsigned short)
SONDE_VECTOR_TYPES(int, int)
SONDE_VECTOR_TYPES(uint, unsigned int)
SONDE_VECTOR_TYPES(longlong, long long)
SONDE_VECTOR_TYPES(float, float)
SONDE_VECTOR_TYPES(double, double)
#undef SONDE_VECTOR_TYPES

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

}  // namespace sonde::emulated
