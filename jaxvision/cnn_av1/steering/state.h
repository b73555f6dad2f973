/* What libaom keeps of a node of the partition tree while it searches its type, in own words.
 *
 * True of libaom 3.6 to 3.14, built without its statistics of partitions. Where a library has
 * another layout, `sane` in steer.c finds numbers that cannot be.
 */
#include <stdint.h>

enum { NONE, HORZ, VERT, SPLIT, HORZ_A, HORZ_B, VERT_A, VERT_B, HORZ_4, VERT_4 };
enum { BASIC = 0x00f, EVERY = 0x3ff, FOUR_WAY = 1 << HORZ_4 | 1 << VERT_4, UNKNOWN = 255 };
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
