// What the race check remembers of memory: a cell for each word of four bytes, or for each byte where
// somebody touched less than a word.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sonde::emulation {

// An access, and when it was.
struct Mark {
  const void* pc;
  std::uint32_t work;  // its number in work_order()
  std::uint32_t block;
  std::uint32_t time;           // counts accesses of the launch
  std::uint32_t barrier, warp;  // epochs
  std::uint16_t thread;
  bool set, atomic;
};

// The last write, and reads that a later write could collide with: the last one, the last one of another
// thread, the last one of another warp.
struct Cell {
  std::uint64_t life;  // of the memory; marks of another one don't count
  bool split;          // a word whose bytes have cells of their own
  Mark write, read, other_thread, other_warp;
};

// f(cell) for each cell of the bytes [start, start + bytes), as they are in this life of their memory.
void visit_cells(std::uintptr_t start, std::size_t bytes, std::uint64_t life, void (*f)(Cell&, void*),
                 void* data);
template <class F>
void each_cell(std::uintptr_t start, std::size_t bytes, std::uint64_t life, F f) {
  visit_cells(
      start, bytes, life, [](Cell& cell, void* data) { (*static_cast<F*>(data))(cell); }, &f);
}
void forget_cells(std::uintptr_t start, std::size_t bytes);
void limit_shadow();  // forgets everything when it has grown large

}  // namespace sonde::emulation
