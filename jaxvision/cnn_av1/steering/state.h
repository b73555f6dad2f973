/* What libaom keeps of a node of the partition tree while it searches its type, in own words.
 *
 * True of libaom 3.6 to 3.14, built without its statistics of partitions. Where a library has
 * another layout, `sane` finds numbers that cannot be.
 */
#include <stdbool.h>
#include <stdint.h>

enum { NONE, HORZ, VERT, SPLIT, HORZ_A, HORZ_B, VERT_A, VERT_B, HORZ_4, VERT_4 };
enum { BASIC = 0x00f, EVERY = 0x3ff, UNKNOWN = 255 };
enum { DEEPEST = 6, ALL_HORZ = 1 << HORZ | 1 << HORZ_A | 1 << HORZ_B | 1 << HORZ_4 };
enum { ALL_VERT = 1 << VERT | 1 << VERT_A | 1 << VERT_B | 1 << VERT_4 };

struct Cost { int rate, zero_rate; int64_t distortion, total, squares; uint8_t skip; };
struct State {
  void *intra;
  int half, row, col, row_middle, col_middle, width, smallest, at_least_8, has_rows, has_cols;
  uint8_t block, part, quarter;
  int wins[4][2];
  struct Cost this_cost, sum_cost;
  int edge_rates[4], *rates;                     /* of signalling each type */
  int64_t none, quarters[4], halves[2][2];       /* quarters: their NONE's, not their best type's */
  int split_ready[2], rect_ready[2];
  int terminate, none_allowed, rect_allowed[2], do_rect, do_split, prune_rect[2];
  int subsampled_x, subsampled_y, context;
  uint8_t found;
};

/* Whether these numbers can be a node's: another layout would show. */
static inline bool sane(const struct State *s) {
  const int flags = s->at_least_8 | s->has_rows | s->has_cols | s->terminate | s->none_allowed |
                    s->rect_allowed[0] | s->rect_allowed[1] | s->do_rect | s->do_split |
                    s->prune_rect[0] | s->prune_rect[1] | s->subsampled_x | s->subsampled_y;
  int level = 0;                                 /* libaom numbers the squares 0, 3, 6, 9, 12, 15 */
  while (level < DEEPEST && 4 << level != s->width) level++;
  return level < DEEPEST && s->block == 3 * level && s->half == s->width / 8 && !(flags & ~1) &&
         s->at_least_8 == (s->width >= 8) && s->row >= 0 && s->col >= 0 && !s->found &&
         !((s->row | s->col) & (s->width / 4 - 1)) && s->row_middle == s->row + s->half &&
         s->col_middle == s->col + s->half;
}
