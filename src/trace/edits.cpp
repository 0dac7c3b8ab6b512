#include "glassformer/trace/edits.hpp"

#include <algorithm>

#include "glassformer/core/require.hpp"

namespace glassformer {

template <class S>
void Edits<S>::rearm() {
  for (Armed& armed : edits_) armed.spent = false;
}

template <class S>
bool Edits<S>::wants(std::string_view site) const {
  return std::ranges::any_of(edits_, [&](const Armed& armed) { return !armed.spent && armed.edit.site.name == site; });
}

template <class S>
void Edits<S>::visit(const Site& site, MatrixRef<S> value) {
  for (Armed& armed : edits_) {
    const SiteEdit<S>& e = armed.edit;
    const auto meets = [](Index wanted, Index found) { return wanted < 0 || wanted == found; };
    if (armed.spent || e.site.name != site.name || !meets(e.site.sequence, site.sequence) || !meets(e.site.head, site.head)) continue;
    armed.spent = e.once;
    if (e.patch.size() != 0) {
      const bool fits = e.row < 0 ? e.patch.rows() == value.rows() && e.patch.cols() == value.cols()
                                  : e.row < std::min<Index>(e.patch.rows(), value.rows()) && e.patch.cols() == value.cols();
      require(fits, "{}: the patch is [{}, {}]{}, the value is [{}, {}]", site.name, e.patch.rows(), e.patch.cols(),
              e.row < 0 ? "" : fmt::format(", of which row {}", e.row), value.rows(), value.cols());
      if (e.row < 0)
        value = e.patch;
      else
        value.row(e.row) = e.patch.row(e.row);
    }
    if (e.factor == S(1)) continue;
    const Index columns = e.columns < 0 ? value.cols() - e.first_column : e.columns;
    require(e.first_column >= 0 && columns >= 0 && e.first_column + columns <= value.cols(),
            "{}: columns {} to {}, but the value is [{}, {}]", site.name, e.first_column, e.first_column + columns, value.rows(),
            value.cols());
    auto part = value.middleCols(e.first_column, columns);
    if (e.factor == S(0))
      part.setZero();  // also what is not finite
    else
      part *= e.factor;
  }
}

template class Edits<float>;
template class Edits<double>;

}  // namespace glassformer
