#include "model/templates/filters.h"

#include <array>

#include "model/templates/filter_functions.h"

namespace fewbits::templates {
namespace {

constexpr auto kFilters = std::to_array<FilterEntry>({
    {"abs", "", filter_abs},
    {"attr", "name", filter_attr},
    {"batch", "linecount fill_with?", filter_batch},
    {"capitalize", "", filter_capitalize},
    {"count", "", filter_length},
    {"d", "default_value? boolean?", filter_default},
    {"default", "default_value? boolean?", filter_default},
    {"dictsort", "case_sensitive? by? reverse?", filter_dictsort},
    {"e", "", filter_escape},
    {"escape", "", filter_escape},
    {"first", "", filter_first},
    {"float", "default?", filter_float},
    {"indent", "width? first? blank?", filter_indent},
    {"int", "default? base?", filter_int},
    {"items", "", filter_items},
    {"join", "d? attribute?", filter_join},
    {"last", "", filter_last},
    {"length", "", filter_length},
    {"list", "", filter_list},
    {"lower", "", filter_lower},
    {"map", "...", filter_map},
    {"max", "case_sensitive? attribute?", filter_max},
    {"min", "case_sensitive? attribute?", filter_min},
    {"reject", "...", filter_reject},
    {"rejectattr", "...", filter_rejectattr},
    {"replace", "old new count?", filter_replace},
    {"reverse", "", filter_reverse},
    {"round", "precision? method?", filter_round},
    {"safe", "", filter_safe},
    {"select", "...", filter_select},
    {"selectattr", "...", filter_selectattr},
    {"sort", "reverse? case_sensitive? attribute?", filter_sort},
    {"string", "", filter_string},
    {"sum", "attribute? start?", filter_sum},
    {"title", "", filter_title},
    {"tojson", "ensure_ascii? indent? separators? sort_keys?", filter_tojson},
    {"trim", "chars?", filter_trim},
    {"unique", "case_sensitive? attribute?", filter_unique},
    {"upper", "", filter_upper},
});
static_assert(is_sorted_by_name(kFilters));

}  // namespace

const FilterEntry* find_filter(std::string_view name) {
  return find_entry(kFilters, name);
}

Value apply_filter(Runtime& runtime, const FilterEntry& filter, const Value& input,
                   const Arguments& arguments) {
  return filter.run(runtime, input, Bound(runtime, filter.name, filter.signature, arguments));
}

}  // namespace fewbits::templates
