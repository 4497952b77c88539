#include "kernels/emulation/race/shadow.h"

#include <array>
#include <memory>
#include <unordered_map>

namespace sonde::emulation {
namespace {

constexpr std::size_t kKeptPages = 2048;
constexpr std::uintptr_t kPageBytes = 4096, kWord = 4;

struct Page {
  std::array<Cell, kPageBytes / kWord> words;
  std::unique_ptr<std::array<Cell, kPageBytes>> bytes;
};
std::unordered_map<std::uintptr_t, std::unique_ptr<Page>> pages;

// The pages used last, by their numbers' lowest bits.
struct Recent {
  std::uintptr_t number = ~std::uintptr_t{0};
  Page* page = nullptr;
};
std::array<Recent, 1024> recent;

Page& page_of(std::uintptr_t address) {
  const std::uintptr_t number = address / kPageBytes;
  Recent& near = recent[number % recent.size()];
  if (number != near.number) {
    auto& page = pages[number];
    if (!page) page = std::make_unique<Page>();
    near = {number, page.get()};
  }
  return *near.page;
}

void begin_life(Cell& cell, std::uint64_t life) {
  if (cell.life == life) return;
  cell.life = life;
  cell.split = false;
  cell.write.set = cell.read.set = cell.other_thread.set = cell.other_warp.set = false;
}

}  // namespace

void visit_cells(std::uintptr_t start, std::size_t bytes, std::uint64_t life, void (*f)(Cell&, void*),
                 void* data) {
  for (std::uintptr_t at = start; at < start + bytes;) {
    Page& page = page_of(at);
    const std::uintptr_t in_page = at % kPageBytes;
    Cell& word = page.words[in_page / kWord];
    begin_life(word, life);
    if (!word.split && at % kWord == 0 && at + kWord <= start + bytes) {
      f(word, data);
      at += kWord;
      continue;
    }
    if (!page.bytes) page.bytes = std::make_unique<std::array<Cell, kPageBytes>>();
    Cell* const of_word = &(*page.bytes)[in_page / kWord * kWord];
    if (!word.split) {
      for (std::uintptr_t i = 0; i < kWord; ++i) of_word[i] = word;
      word.split = true;
    }
    f(of_word[at % kWord], data);
    ++at;
  }
}

void forget_cells(std::uintptr_t start, std::size_t bytes) {
  if (bytes == 0) return;
  for (auto number = start / kPageBytes; number <= (start + bytes - 1) / kPageBytes; ++number)
    if (const auto page = pages.find(number); page != pages.end())
      for (std::uintptr_t i = 0; i < page->second->words.size(); ++i) {
        const std::uintptr_t address = number * kPageBytes + i * kWord;
        if (address + kWord > start && address < start + bytes) page->second->words[i].life = 0;
      }
}

void limit_shadow() {
  if (pages.size() <= kKeptPages) return;
  pages.clear();
  recent.fill({});
}

}  // namespace sonde::emulation
