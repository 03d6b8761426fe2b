#pragma once

#include "model/templates/bound.h"
#include "model/templates/runtime.h"

// The filters, as jinja2 defines them (tojson as `transformers` does). filters.cc says which
// arguments each takes.
namespace fewbits::templates {

using FilterFunction = Value(Runtime& runtime, const Value& input, const Bound& arguments);

// text_filters.cc: strings and numbers
FilterFunction filter_abs, filter_capitalize, filter_escape, filter_float, filter_indent,
    filter_int, filter_lower, filter_replace, filter_round, filter_safe, filter_string,
    filter_title, filter_tojson, filter_trim, filter_upper;

// list_filters.cc: everything that iterates, and what takes any value
FilterFunction filter_attr, filter_batch, filter_default, filter_dictsort, filter_first,
    filter_items, filter_join, filter_last, filter_length, filter_list, filter_map, filter_max,
    filter_min, filter_reject, filter_rejectattr, filter_reverse, filter_select, filter_selectattr,
    filter_sort, filter_sum, filter_unique;

}  // namespace fewbits::templates
