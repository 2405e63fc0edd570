// A list for each score row of a step, flat: list i is items[begins[i]] up to items[begins[i + 1]].
// Both are empty in a step in which every list is: what nobody asks for costs nothing.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace tidemill {

template <typename T>
struct RowLists {
  std::vector<T> items;
  std::vector<int32_t> begins;

  void clear() {
    items.clear();
    begins.clear();
  }
  // The list of row `row`; rows come in order.
  void add(size_t row, std::span<const T> list) {
    if (list.empty() && begins.empty()) return;
    if (begins.empty()) begins.assign(row + 1, 0);  // the rows before have none
    items.insert(items.end(), list.begin(), list.end());
    begins.push_back(static_cast<int32_t>(items.size()));
  }
  std::span<const T> of(size_t row) const {
    if (begins.empty()) return {};
    const auto begin = static_cast<size_t>(begins[row]);
    return std::span(items).subspan(begin, static_cast<size_t>(begins[row + 1]) - begin);
  }
  // That of() stays inside the arrays for every row.
  bool is_consistent(size_t num_rows) const {
    if (begins.empty()) return items.empty();
    return begins.size() == num_rows + 1 && begins.front() == 0 &&
           std::is_sorted(begins.begin(), begins.end()) &&
           static_cast<size_t>(begins.back()) == items.size();
  }
  bool operator==(const RowLists&) const = default;
};

template <typename Visitor, typename T>
void visit_members(Visitor& visit, RowLists<T>& lists) {
  visit(lists.items);
  visit(lists.begins);
}

}  // namespace tidemill
