// Bench of ws.v and is.v: operands from memh files in +dir=DIR, in DIR/ID; writes every edge and every register of
// every cycle to DIR/ID/dump.txt, one line a cycle, until one cycle after the last.
// With +outputs, writes the outputs alone, and which columns they are in, to DIR/ID/outputs.txt.
module bench_stationary #(
    parameter ID = 0,
    parameter INPUTS_STAY = 0,
    parameter ROWS = 4,
    parameter COLS = 4,
    parameter WEIGHT_BITS = 8,
    parameter WEIGHT_SIGNED = 1,
    parameter ACT_BITS = 8,
    parameter ACT_SIGNED = 1,
    parameter PSUM_BITS = 24,
    parameter PSUM_SATURATE = 0,
    parameter ACC_BITS = 32,
    parameter ACC_SATURATE = 0,
    parameter LANES = 1,
    parameter DEPTH = 1,
    parameter BANKS = 1,
    parameter DUMP = 1,
    parameter WORDS = 4096,
    parameter PLACES = 64
) (
    input wire clk,
    output reg done,
    output reg [63:0] digest
);
    localparam BIAS_BITS = 64;
    localparam MOVING = LANES * (INPUTS_STAY != 0 ? WEIGHT_BITS : ACT_BITS);
    localparam STILL = LANES * (INPUTS_STAY != 0 ? ACT_BITS : WEIGHT_BITS);
    localparam BIASES = INPUTS_STAY != 0 ? 1 : COLS;

    reg [15:0] size [0:0];
    reg [63:0] folds [0:WORDS-1];
    reg [ROWS*MOVING-1:0] streams [0:WORDS-1];
    reg [COLS*STILL-1:0] loads [0:WORDS-1];
    reg [BIASES*BIAS_BITS-1:0] biases [0:WORDS-1];
    reg [8*512-1:0] dir, path;
    integer file, outputs;
    initial begin
        if (!$value$plusargs("dir=%s", dir)) $finish;
        $sformat(path, "%0s/%0d/size.memh", dir, ID);
        $readmemh(path, size);
        $sformat(path, "%0s/%0d/folds.memh", dir, ID);
        $readmemh(path, folds, 0, {16'd0, size[0]} - 1);
        $sformat(path, "%0s/%0d/streams.memh", dir, ID);
        $readmemh(path, streams);
        $sformat(path, "%0s/%0d/loads.memh", dir, ID);
        $readmemh(path, loads);
        $sformat(path, "%0s/%0d/biases.memh", dir, ID);
        $readmemh(path, biases);
        $sformat(path, "%0s/%0d/dump.txt", dir, ID);
        file = $fopen(path, "w");
        outputs = 0;
        if ($test$plusargs("outputs")) begin
            $sformat(path, "%0s/%0d/outputs.txt", dir, ID);
            outputs = $fopen(path, "w");
        end
    end

    reg reset, run, over;
    wire busy;
    wire [15:0] fold, load_address, stream_address, bias_address;
    wire [63:0] now = folds[fold];
    wire [COLS*PSUM_BITS-1:0] bottom;
    wire [COLS*ACC_BITS-1:0] total;
    wire [COLS-1:0] bottom_valid, total_final, total_overflow, total_bias_overflow;
    wire [ROWS*COLS-1:0] overflow;

    genvar r, c;
    generate
        if (INPUTS_STAY != 0) begin : g
            is #(
                .ROWS(ROWS), .COLS(COLS), .WEIGHT_BITS(WEIGHT_BITS), .WEIGHT_SIGNED(WEIGHT_SIGNED),
                .ACT_BITS(ACT_BITS), .ACT_SIGNED(ACT_SIGNED), .PSUM_BITS(PSUM_BITS), .PSUM_SATURATE(PSUM_SATURATE),
                .BIAS_BITS(BIAS_BITS), .ACC_BITS(ACC_BITS), .ACC_SATURATE(ACC_SATURATE), .LANES(LANES),
                .DEPTH(DEPTH), .BANKS(BANKS), .PLACES(PLACES)
            ) dut (
                .clk(clk), .reset(reset), .run(run), .busy(busy), .fold_count(size[0]), .fold(fold),
                .fold_length(now[15:0]), .fold_first(now[16]), .fold_final(now[32]), .fold_bias(now[63:48]),
                .activation_address(load_address), .activation_word(loads[load_address]),
                .weight_address(stream_address), .weight_word(streams[stream_address]),
                .bias_address(bias_address), .bias_word(biases[bias_address]), .bottom(bottom),
                .bottom_valid(bottom_valid), .overflow(overflow), .total(total), .total_final(total_final),
                .total_overflow(total_overflow), .total_bias_overflow(total_bias_overflow)
            );
        end else begin : g
            ws #(
                .ROWS(ROWS), .COLS(COLS), .WEIGHT_BITS(WEIGHT_BITS), .WEIGHT_SIGNED(WEIGHT_SIGNED),
                .ACT_BITS(ACT_BITS), .ACT_SIGNED(ACT_SIGNED), .PSUM_BITS(PSUM_BITS), .PSUM_SATURATE(PSUM_SATURATE),
                .BIAS_BITS(BIAS_BITS), .ACC_BITS(ACC_BITS), .ACC_SATURATE(ACC_SATURATE), .LANES(LANES),
                .DEPTH(DEPTH), .BANKS(BANKS), .PLACES(PLACES)
            ) dut (
                .clk(clk), .reset(reset), .run(run), .busy(busy), .fold_count(size[0]), .fold(fold),
                .fold_length(now[15:0]), .fold_first(now[16]), .fold_final(now[32]), .fold_bias(now[63:48]),
                .weight_address(load_address), .weight_word(loads[load_address]),
                .activation_address(stream_address), .activation_word(streams[stream_address]),
                .bias_address(bias_address), .bias_word(biases[bias_address]), .bottom(bottom),
                .bottom_valid(bottom_valid), .overflow(overflow), .total(total), .total_final(total_final),
                .total_overflow(total_overflow), .total_bias_overflow(total_bias_overflow)
            );
        end
        if (DUMP != 0) begin : g_dump
            wire [ROWS*COLS*MOVING-1:0] moving;
            wire [BANKS*ROWS*COLS*STILL-1:0] still;
            wire [ROWS*COLS*PSUM_BITS-1:0] sums;
            for (r = 0; r < ROWS; r = r + 1) begin : g_row
                for (c = 0; c < COLS; c = c + 1) begin : g_col
                    assign moving[(r*COLS + c)*MOVING +: MOVING] = g.dut.core.array.g_row[r].g_col[c].pe.moving;
                    assign sums[(r*COLS + c)*PSUM_BITS +: PSUM_BITS] = g.dut.core.array.g_row[r].g_col[c].pe.sum;
                    assign still[(r*COLS + c)*STILL +: STILL] = g.dut.core.array.g_row[r].g_col[c].pe.still_0;
                    if (BANKS == 2) begin : g_two
                        assign still[((ROWS + r)*COLS + c)*STILL +: STILL] =
                            g.dut.core.array.g_row[r].g_col[c].pe.g_two.still_1;
                    end
                end
            end
            always @(posedge clk)
                if (run && !over) begin
                    $fwrite(file, "%h %h %h ", g.dut.core.array.left, g.dut.core.array.top, g.dut.core.array.select);
                    $fwrite(file, "%h %h ", g.dut.core.array.shift, g.dut.core.array.load_bank);
                    $fwrite(file, "%h %h ", bottom, bottom_valid);
                    $fwrite(file, "%h %h %h %h ", total, total_final, total_overflow, total_bias_overflow);
                    $fwrite(file, "%h %h %h %h\n", moving, still, sums, overflow);
                end
        end
    endgenerate

    initial begin
        reset = 1'b1;
        run = 1'b0;
        over = 1'b0;
        digest = 64'd0;
        done = 1'b0;
    end
    // The sum of all outputs, idle columns included.
    reg [63:0] sum;
    integer i;
    always @* begin
        sum = digest;
        for (i = 0; i < COLS; i = i + 1)
            if (total_final[i])
                sum = sum + {{(64-ACC_BITS){total[i*ACC_BITS + ACC_BITS - 1]}}, total[i*ACC_BITS +: ACC_BITS]};
    end
    always @(posedge clk) begin
        if (run && !over) digest <= sum;
        if (run && !over && outputs != 0 && |total_final) $fwrite(outputs, "%h %h\n", total_final, total);
        reset <= 1'b0;
        run <= !reset;
        over <= run && !busy;
        if (over && !done) begin
            $fclose(file);
            if (outputs != 0) $fclose(outputs);
        end
        done <= over;
    end
endmodule
